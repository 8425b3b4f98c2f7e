"""How the broker is reached: client ids that last, bad certificates, what is heard of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from queue import SimpleQueue

import pytest

from appliance.connection import BrokerAddress, Connection, Listener, Terms, new_client
from appliance.errors import BrokerError
from appliance.takeovers import LONGEST_RETRY_S, SHORT_ONES, STANDS_AFTER_S, Takeovers
from tests.appliances import WAIT_S, address
from tests.conftest import StartBroker
from tests.raw_mqtt import RawClient

CLIENT_ID = "test-connection"


def broker(
    *, password: str | None = None, cert: Path | None = None, key: Path | None = None
) -> BrokerAddress:
    """A broker whose CA is the client's own certificate, which signed itself."""
    return BrokerAddress(
        host="h", port=1, password=password, tls_ca=cert, tls_cert=cert, tls_key=key
    )


def certificate(folder: Path, *options: str) -> tuple[Path, Path]:
    """A certificate and its key, as openssl makes them with these options."""
    cert, key = folder / "own.crt", folder / "own.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [*options, "-subj", "/CN=gate", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_a_client_id_is_the_same_after_a_restart_and_another_with_another_secret() -> None:
    ids = [broker(password=word).client_id("delen-box") for word in ("a", "a", "b")]

    assert ids[0] == ids[1] != ids[2]
    assert all(id_.startswith("delen-box-") for id_ in ids)


def test_a_client_id_follows_from_the_key_where_there_is_no_password(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "-noenc")
    before = broker(cert=cert, key=key).client_id("delen-box")

    certificate(tmp_path, "-noenc")

    assert broker(cert=cert, key=key).client_id("delen-box") != before
    with pytest.raises(BrokerError, match="DELEN_MQTT_TLS_KEY"):
        broker(key=tmp_path / "missing").client_id("delen-box")


def test_without_a_secret_a_client_id_is_the_name_alone() -> None:
    assert broker().client_id("delen-box") == "delen-box"


def test_an_encrypted_key_is_refused_rather_than_asked_a_password_for(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "-passout", "pass:secret")

    with pytest.raises(BrokerError, match="unencrypted"):
        new_client(broker(cert=cert, key=key), client_id="x")


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    cert, _ = certificate(tmp_path, "-noenc")
    (tmp_path / "other").mkdir()
    _, key = certificate(tmp_path / "other", "-noenc")

    with pytest.raises(BrokerError, match="DELEN_MQTT_TLS_KEY"):
        new_client(broker(cert=cert, key=key), client_id="x")


def connection_to(
    where: BrokerAddress, told: SimpleQueue[str], terms: Terms | None = None
) -> Connection:
    listener = Listener(accepted=lambda _: told.put("accepted"), refused=told.put, lost=told.put)
    return Connection(where, client_id=CLIENT_ID, listener=listener, terms=terms or Terms())


def test_a_connection_is_made_again_and_its_end_is_no_loss(start_broker: StartBroker) -> None:
    own, told = start_broker(), SimpleQueue[str]()
    connection = connection_to(address(own), told)

    connection.open()
    first = told.get(timeout=WAIT_S)
    own.kill()
    lost = told.get(timeout=WAIT_S)
    own.start()
    while (again := told.get(timeout=WAIT_S)) != "accepted":
        assert "cannot be reached" in again
    connection.close()

    assert first == "accepted"
    assert f"the connection to the broker at {address(own)} is lost" in lost
    assert told.empty()


def test_a_broker_that_refuses_says_why(start_broker: StartBroker) -> None:
    own, told = start_broker(users={"gate": "right"}), SimpleQueue[str]()
    connection = connection_to(address(own, username="gate", password="wrong"), told)  # noqa: S106

    connection.open()
    sentence = told.get(timeout=WAIT_S)
    connection.close()

    assert f"the broker at {address(own)} refuses the connection: Not authorized" in sentence


def test_two_of_one_client_id_notice_it_where_the_broker_gives_no_reason(
    start_broker: StartBroker,
) -> None:
    own, ours = start_broker(), SimpleQueue[str]()
    first = connection_to(address(own), ours, Terms(first_retry_s=0))
    first.open()

    for _ in range(SHORT_ONES):
        assert ours.get(timeout=WAIT_S) == "accepted"
        with RawClient(own.host, own.port, client_id=CLIENT_ID):
            lost = ours.get(timeout=WAIT_S)
    times = first.takeovers()
    first.close()

    assert "is lost" in lost
    assert times == 1


def test_who_is_thrown_out_waits_longer_each_time_until_the_session_has_stood() -> None:
    takeovers, now_s, waits_s = Takeovers(first_retry_s=1), 0.0, []

    for _ in range(9):
        takeovers.ended(now_s, lasted_s=1.0, is_told=True)
        waits_s.append(takeovers.retry_s(now_s))
        now_s += 2 * waits_s[-1]

    assert waits_s == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert takeovers.retry_s(now_s + STANDS_AFTER_S) == 1


def test_connections_that_break_now_and_then_are_no_fight() -> None:
    takeovers, now_s = Takeovers(first_retry_s=1), 0.0

    for lasted_s in (1.0, 2.0, 1.0, 9.0) * 10:
        now_s += lasted_s
        takeovers.ended(now_s, lasted_s=lasted_s, is_told=False)

    assert takeovers.count(now_s) == 0
    assert takeovers.retry_s(now_s) == 1


def test_two_who_fight_keep_away_from_each_other_more_and_more() -> None:
    one, now_s = Takeovers(first_retry_s=1), 0.0

    for _ in range(20):
        # The other one waits as long as this one, and then takes the session.
        waited_s = one.retry_s(now_s)
        now_s += 2 * waited_s
        one.ended(now_s, lasted_s=waited_s, is_told=False)

    assert one.retry_s(now_s) == LONGEST_RETRY_S
