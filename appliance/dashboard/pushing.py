"""A policy that was pushed, and what appliances make of it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.errors import Code
from appliance.fleet.fleet import Fleet
from appliance.fleet.tenants import TenantView
from appliance.messages import PolicyRejection


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What is known of a push so far."""

    is_complete: bool
    """Whether every appliance that had a policy of the tenant has answered."""
    is_in_force: bool
    """Whether all that answered took it."""
    is_stale: bool
    """Whether one has another version of the same number, or a later one."""
    sentence: str


class Push:
    """Compares what appliances report with what they reported when this was made."""

    def __init__(self, fleet: Fleet, *, tenant: str, document: str, version: int) -> None:
        self._fleet = fleet
        self._tenant = tenant
        self._document = document
        self._version = version
        self._before = {
            view.appliance: view.state.last_rejection if view.state is not None else None
            for view in self._views()
        }

    def outcome(self) -> Outcome:
        """What the appliances make of it so far."""
        views = self._views()
        took = [view.appliance for view in views if self._is_in_force(view)]
        refused = {
            view.appliance: rejection
            for view in views
            if (rejection := self._new_rejection(view)) is not None
        }
        answered = {*took, *refused}
        sentences = [f"{name}: {r.code} {r.reason}: {r.detail}" for name, r in refused.items()]
        if took:
            sentences.insert(0, f"version {self._version} is in force on {', '.join(took)}")
        if not answered:
            sentences = ["no appliance has answered: is one online?"]
        return Outcome(
            is_complete=bool(answered) and answered >= self._before.keys(),
            is_in_force=bool(took) and not refused,
            is_stale=any(r.code == Code.STALE_VERSION for r in refused.values()),
            sentence="; ".join(sentences),
        )

    def _views(self) -> list[TenantView]:
        return self._fleet.views_of(self._tenant)

    def _is_in_force(self, view: TenantView) -> bool:
        state = view.state
        if state is None or state.version != self._version or state.last_rejection is not None:
            return False
        # An appliance that does not tell the text of what is in force is believed by its number.
        return state.document is None or state.document == self._document

    def _new_rejection(self, view: TenantView) -> PolicyRejection | None:
        now = None if view.state is None else view.state.last_rejection
        return now if now != self._before.get(view.appliance) else None
