"""An appliance at a broker with our ACL: its session, its voice, and what is retained."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.broker import Mosquitto
from appliance.connection import new_client
from appliance.messages import REPLY, Rejection
from appliance.service import Service
from tests.appliances import WAIT_S, address, serving
from tests.gate import gate_settings, npy
from tests.isolation.roster import BOX, END, PREFIX, Ears, as_user, connected, is_taken, password
from tests.waiting import wait_until


@contextmanager
def serving_guarded(broker: Mosquitto, folder: Path) -> Iterator[Service]:
    """An appliance at the guarded broker, as the user that is its own."""
    secret = password("appliance")
    settings = gate_settings(
        broker,
        folder,
        appliance_id=BOX,
        topic_prefix=PREFIX,
        mqtt_username="appliance",
        mqtt_password=secret,
    )
    with serving(settings) as service:
        yield service


def test_the_c_clients_get_no_reply_where_the_response_topic_is_not_their_own(
    guarded: Mosquitto, tmp_path: Path
) -> None:
    request = ["-t", f"{PREFIX}/gate/request", "-m", "x"]
    named = [f"{PREFIX}/door/result/me", f"{PREFIX}/+/result/#", "$SYS/x", "$share/x/a", "#"]
    rr = ["mosquitto_rr", *as_user(guarded, "gate"), *request, "-e", named[0]]

    with (
        serving_guarded(guarded, tmp_path),
        Ears(guarded, "door", "#") as door,
        Ears(guarded, "gate", f"{PREFIX}/gate/result") as gate,
    ):
        asking = subprocess.Popen(rr, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for response_topic in named[1:]:
            properties = ["-D", "publish", "response-topic", response_topic]
            command = ["mosquitto_pub", *as_user(guarded, "gate"), *request, *properties]
            subprocess.run(command, check=True, timeout=WAIT_S)
        refusals = [REPLY.validate_json(gate.next()[1]) for _ in named]
        asking.terminate()
        assert asking.communicate(timeout=WAIT_S)[0] == b""
        with connected(guarded, "appliance") as appliance:
            appliance.publish(f"{PREFIX}/door/result", END.encode())

        assert door.until_the_end() == []
    assert [reply.code for reply in refusals if isinstance(reply, Rejection)] == [403] * len(named)


def retained(broker: Mosquitto) -> list[str]:
    """The topics of the requests that the broker retains."""
    found: list[str] = []

    def heard(topic: str, _payload: bytes, is_retained: bool) -> None:  # noqa: FBT001
        if is_retained:
            found.append(topic)

    with connected(broker, "appliance") as client:
        client.watch(f"{PREFIX}/+/request/#", heard)
        client.watch("barrier", heard)
    return found


def test_a_sensor_does_not_fill_the_broker_with_retained_requests(
    guarded: Mosquitto, tmp_path: Path
) -> None:
    topics = [f"{PREFIX}/gate/request{rest}" for rest in ("", "/1", "/2", "/2/below/that")]
    for topic in topics:
        assert is_taken(guarded, "gate/yard", topic, "-r")
    assert sorted(retained(guarded)) == topics

    with serving_guarded(guarded, tmp_path), Ears(guarded, "gate", f"{PREFIX}/gate/#") as ears:
        for topic in topics:
            assert is_taken(guarded, "gate/yard", topic, "-r")
        refusals = [REPLY.validate_json(ears.next()[1]) for _ in topics[:3]]

        wait_until(lambda: not retained(guarded))
        with connected(guarded, "appliance") as appliance:
            appliance.publish(f"{PREFIX}/gate/result", END.encode())
        assert ears.until_the_end() == []
    assert [reply.code for reply in refusals if isinstance(reply, Rejection)] == [400] * 3


def test_who_guesses_at_the_appliances_client_id_does_not_end_its_session(
    guarded: Mosquitto, tmp_path: Path
) -> None:
    with serving_guarded(guarded, tmp_path) as service:
        mine = address(guarded, username="gate", password=password("gate"))
        intruder = new_client(mine, client_id=f"delen-{BOX}")
        intruder.connect(guarded.host, guarded.port, clean_start=True)
        intruder.loop_start()
        wait_until(intruder.is_connected)
        with connected(guarded, "gate") as gate:
            reply = gate.infer("gate", npy(), timeout_s=WAIT_S)
        intruder.disconnect()
        intruder.loop_stop()

        assert reply.status == "rejected"
        assert service.health().well
