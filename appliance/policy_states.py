"""Tells tenants what is in force for them, within their quota."""

from __future__ import annotations

from collections.abc import Callable, Container

from appliance.gateway import Gateway
from appliance.messages import POLICY_STATE, PolicyState
from appliance.state_quota import StateQuota


class PolicyStates:
    """Publishes policy states, and keeps what is beyond the quota for the next half second.

    `known` gives the tenants that have a policy. Every call comes from the intake's thread, or
    while that does not run.
    """

    def __init__(
        self, *, gateway: Gateway, known: Callable[[], Container[str]], clock: Callable[[], float]
    ) -> None:
        self._gateway = gateway
        self._known = known
        self._clock = clock
        self._quota = StateQuota()

    def are_owed(self) -> bool:
        """Whether something is kept; from any thread."""
        return len(self._quota) > 0

    def tell(self, tenant: str, state: PolicyState | None, delivery: int = 0) -> None:
        """Tells what is in force for a tenant, None where nothing is known of it any more.

        A push whose state is kept is acknowledged at once, so that it does not hold up others.
        """
        if state is None:
            self._quota.forget(tenant)
            self._gateway.publish_policy_state(tenant, b"", delivery=delivery)
        elif self._quota.allows(state, self._known(), self._clock()):
            self._publish(state, delivery)
        else:
            self._gateway.settled(delivery)

    def tell_of(self, state: PolicyState) -> None:
        """Tells what has changed for a tenant by itself."""
        self.tell(state.tenant, state)

    def tell_owed(self) -> None:
        """Tells what was kept and may be told by now."""
        for state in self._quota.take_due(self._known(), self._clock()):
            self._publish(state)

    def tell_rest(self) -> None:
        """Tells all that was kept, at the end."""
        for state in self._quota.take_all():
            self._publish(state)

    def _publish(self, state: PolicyState, delivery: int = 0) -> None:
        payload = POLICY_STATE.dump_json(state)
        self._gateway.publish_policy_state(state.tenant, payload, delivery=delivery)
