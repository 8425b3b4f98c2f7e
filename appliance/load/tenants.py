"""The tenants that a load speaks for: those that are there, and those whose policies it brings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue

from appliance.errors import LoadError
from appliance.messages import POLICY_STATE, PolicyState
from appliance.session import Session

ANSWER_S = 10.0
MORE_S = 0.3
"""How long more states may take to come, once one has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """A tenant with a policy in force."""

    name: str
    version: int
    engine: str


@contextmanager
def in_force(
    client: Session, wanted: Sequence[str], policies: Mapping[str, bytes]
) -> Iterator[tuple[Tenant, ...]]:
    """The wanted tenants, or all that are there where none is named, once they can be served.

    A policy that is brought is pushed; one of a tenant that had none is removed again at the end.
    Raises LoadError where a tenant has no policy, or the appliance turns one away.
    """
    states: Queue[PolicyState] = Queue()

    def received(_topic: str, payload: bytes, _retained: bool) -> None:  # noqa: FBT001
        if payload:
            states.put(POLICY_STATE.validate_json(payload))

    client.watch(client.topics.policy_state("+", "+"), received)
    found = _gather(states)
    brought = [name for name in policies if name not in found]
    try:
        for name, document in policies.items():
            found[name] = _push(client, name, document, states)
        names = list(wanted) or sorted(found)
        missing = [name for name in names if name not in found]
        if missing or not names:
            known = ", ".join(sorted(found)) or "none"
            raise LoadError(
                f"no appliance has a policy of {', '.join(missing) or 'any tenant'}: push one, or"
                f" bring it with --tenant NAME=FILE; tenants there: {known}"
            )
        yield tuple(found[name] for name in names)
    finally:
        for name in brought:
            client.publish(client.topics.policy_set(name), b"")


def _gather(states: Queue[PolicyState]) -> dict[str, Tenant]:
    """The tenants that appliances report in what the broker had retained."""
    found: dict[str, Tenant] = {}
    while True:
        try:
            state = states.get(timeout=MORE_S)
        except Empty:
            return found
        if state.version is not None and state.engine is not None:
            found[state.tenant] = Tenant(
                name=state.tenant, version=state.version, engine=state.engine
            )


def _push(client: Session, name: str, document: bytes, states: Queue[PolicyState]) -> Tenant:
    client.publish(client.topics.policy_set(name), document)
    deadline_s = time.monotonic() + ANSWER_S
    while (left_s := deadline_s - time.monotonic()) > 0.0:
        try:
            state = states.get(timeout=left_s)
        except Empty:
            break
        if state.tenant != name:
            continue
        if state.last_rejection is not None:
            raise LoadError(
                f"the appliance turns the policy of {name} away: {state.last_rejection.detail}"
            )
        if state.version is not None and state.engine is not None:
            return Tenant(name=name, version=state.version, engine=state.engine)
    raise LoadError(
        f"no appliance takes the policy of {name} within {ANSWER_S:g} s: is one online?"
    )
