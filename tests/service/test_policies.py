"""Policies pushed to a running appliance, kept by it, and retained by the broker."""

from __future__ import annotations

from pathlib import Path

from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import WAIT_S, Watch, client_of, push, serving
from tests.conftest import StartBroker
from tests.gate import POLICY, answered, gate_settings, npy, rejected


def test_a_new_policy_takes_effect_and_its_version_stands_in_the_results(client: Session) -> None:
    before = answered(client.infer("gate", npy()))

    state = push(client, POLICY.replace("version: 1", "version: 2").replace(">= 0", ">= 2"))
    after = answered(client.infer("gate", npy()))

    assert state.version == 2
    assert (before.exit, before.policy_version) == (0, 1)
    assert (after.exit, after.policy_version) == (2, 2)


def test_an_invalid_policy_is_rejected_with_every_error_and_the_old_one_stays(
    client: Session,
) -> None:
    state = push(
        client, "tenant: gate\nversion: 2\nengine: tiny\nbounds: {energy: 3 parsecs}\nx: 1"
    )

    assert state.version == 1
    assert state.last_rejection is not None
    assert state.last_rejection.code == 422
    assert [(e.path, e.line) for e in state.last_rejection.errors] == [
        ("bounds.energy", 4),
        ("x", 5),
    ]
    assert answered(client.infer("gate", npy())).policy_version == 1


def test_a_stale_version_is_rejected(client: Session) -> None:
    push(client, POLICY.replace("version: 1", "version: 5"))

    state = push(client, POLICY.replace("version: 1", "version: 4"))

    assert state.version == 5
    assert state.last_rejection is not None
    assert state.last_rejection.code == 409


def test_a_policy_for_an_unknown_engine_is_rejected_at_its_line(client: Session) -> None:
    state = push(client, POLICY.replace("engine: tiny", "engine: huge").replace(": 1", ": 2"))

    assert state.last_rejection is not None
    (problem,) = state.last_rejection.errors
    assert (problem.path, problem.line) == ("engine", 4)
    assert "tiny" in problem.message


def test_an_empty_push_removes_the_policy(client: Session) -> None:
    states = Watch(client, client.topics.policy_state("gate", "+"))
    states.next()

    client.publish(client.topics.policy_set("gate"), b"")
    _, payload = states.next()

    assert payload == b""
    assert rejected(client.infer("gate", npy())).code == 404


def test_the_policy_in_force_survives_a_restart(settings: Settings) -> None:
    with serving(settings), client_of(settings) as client:
        push(client, POLICY.replace("version: 1", "version: 7"))

    with serving(settings), client_of(settings) as client:
        reply = answered(client.infer("gate", npy()))

    assert reply.policy_version == 7


def test_a_policy_in_the_conditions_folder_serves_tenants_that_never_had_one(
    settings: Settings,
) -> None:
    (settings.conditions / "gate.yaml").write_text(POLICY)
    (settings.conditions / "broken.yaml").write_text("tenant: [")

    with serving(settings), client_of(settings) as client:
        first = answered(client.infer("gate", npy()))
        client.publish(client.topics.policy_set("gate"), b"")
        removed = rejected(client.infer("gate", npy()))
    with serving(settings), client_of(settings) as client:
        still_removed = rejected(client.infer("gate", npy()))

    assert first.policy_version == 1
    assert removed.code == still_removed.code == 404


def test_a_policy_that_the_broker_retained_is_in_force_after_the_first_start(
    settings: Settings,
) -> None:
    with client_of(settings) as client:
        client.publish(client.topics.policy_set("gate"), POLICY.encode(), retain=True)
        states = Watch(client, client.topics.policy_state("gate", "+"))
        with serving(settings):
            states.next()
            reply = answered(client.infer("gate", npy()))
        client.publish(client.topics.policy_set("gate"), b"", retain=True)

    assert reply.policy_version == 1


def test_a_request_that_waits_for_an_appliance_without_its_database_finds_the_retained_policy(
    settings: Settings,
) -> None:
    with client_of(settings) as client:
        with serving(settings):
            push(client, POLICY, retain=True)
        waiting = client.submit("gate", npy())
        client.publish("anything", b"")  # the broker has all that was sent before
        settings.database.unlink()

        with serving(settings):
            reply = waiting.result(WAIT_S)
        client.publish(client.topics.policy_set("gate"), b"", retain=True)

    assert answered(reply).policy_version == 1


def test_a_request_that_waits_finds_the_policy_that_was_retained_before_it(
    settings: Settings,
) -> None:
    with client_of(settings) as client:
        with serving(settings):
            push(client, POLICY)
        newer = POLICY.replace("version: 1", "version: 2")
        client.publish(client.topics.policy_set("gate"), newer.encode(), retain=True)
        waiting = client.submit("gate", npy())

        with serving(settings):
            reply = waiting.result(WAIT_S)
        client.publish(client.topics.policy_set("gate"), b"", retain=True)

    assert answered(reply).policy_version == 2


def test_no_request_is_dropped_while_policies_change(client: Session) -> None:
    topics = client.topics
    roomy = POLICY + "queue: {limit: 1000}"
    policies = [
        roomy.replace("version: 1", f"version: {version}").replace(">= 0", f">= {version % 4}")
        for version in range(2, 22)
    ]

    replies = []
    for policy in policies:
        replies += [client.submit("gate", npy()) for _ in range(10)]
        client.publish(topics.policy_set("gate"), policy.encode())
    results = [answered(reply.result(WAIT_S)) for reply in replies]

    assert len(results) == 200
    assert {result.exit for result in results} == {0, 1, 2, 3}
    versions = [result.policy_version for result in results]
    assert versions == sorted(versions)


def test_a_policy_with_hundreds_of_faults_lists_some_and_is_counted_whole(client: Session) -> None:
    mistakes = "".join(f"mistake{number}: 1\n" for number in range(900))

    rejection = push(client, f"{POLICY}{mistakes}").last_rejection

    assert rejection is not None
    assert rejection.detail.startswith("900 problems, the first 100: ")
    assert len(rejection.errors) == 100


def test_an_oversize_policy_state_is_never_sent_and_the_connection_stands(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker(max_packet_bytes=2500)
    settings = gate_settings(broker, tmp_path)
    mistakes = "".join(f"m{number}: 1\n" for number in range(30))

    with serving(settings), client_of(settings) as client:
        push(client, POLICY)
        client.publish(client.topics.policy_set("gate"), f"{POLICY}{mistakes}".encode())
        reply = answered(client.infer("gate", npy()))

    assert reply.policy_version == 1
