"""The fleet manager: waits for the appliance, pushes policies, and reads what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from queue import Empty, Queue

from appliance.demo.child import Appliance
from appliance.demo.policies import DemoPolicy
from appliance.errors import ServiceError
from appliance.messages import POLICY_STATE
from appliance.session import Session

ONLINE_TIMEOUT_S = 60.0
"""A small board takes its time to load Python and an engine."""

IN_FORCE_TIMEOUT_S = 60.0
_POLL_S = 0.1


class FleetManager:
    """Speaks to one appliance over its own connection, for as long as that one runs."""

    def __init__(self, client: Session, appliance: Appliance) -> None:
        self._client = client
        self._appliance = appliance
        self._online: Queue[bytes] = Queue()
        self._states: Queue[bytes] = Queue()
        topics = client.topics
        client.watch(
            topics.appliance_status(appliance.name),
            lambda _topic, status, _: self._online.put(status),
        )
        client.watch(
            topics.policy_state("+", appliance.name),
            lambda _topic, state, _: self._states.put(state),
        )

    def wait_online(self) -> None:
        """Returns once the appliance says that it is online. Raises ServiceError where it is not"""
        deadline_s = time.monotonic() + ONLINE_TIMEOUT_S
        while self._next(self._online, deadline_s, "is not online") != b"online":
            pass

    def put_in_force(self, policies: Sequence[DemoPolicy]) -> None:
        """Pushes policies and waits until they are in force.

        Raises ServiceError with the appliance's own words where it turns one away.
        """
        for policy in policies:
            self._client.publish(self._client.topics.policy_set(policy.tenant), policy.document())
        missing = {policy.tenant: policy.version for policy in policies}
        deadline_s = time.monotonic() + IN_FORCE_TIMEOUT_S
        while missing:
            payload = self._next(self._states, deadline_s, "does not take the policies")
            state = POLICY_STATE.validate_json(payload)
            if state.last_rejection is not None:
                raise ServiceError(
                    f"the appliance turns the policy of {state.tenant} away:"
                    f" {state.last_rejection.detail}"
                )
            if missing.get(state.tenant) == state.version:
                del missing[state.tenant]

    def _next(self, messages: Queue[bytes], deadline_s: float, complaint: str) -> bytes:
        started_s = time.monotonic()
        while time.monotonic() < deadline_s:
            self._appliance.check()
            try:
                return messages.get(timeout=_POLL_S)
            except Empty:
                continue
        waited_s = time.monotonic() - started_s
        raise ServiceError(
            f"the appliance {complaint} after {waited_s:.0f} s; its log ends with:\n"
            + self._appliance.last_lines()
        )
