"""What somebody looks at: the picture, a moment, and what was chosen in it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.fleet.appliances import ApplianceView
from appliance.fleet.fleet import Fleet
from appliance.fleet.tenants import TenantView
from appliance.top.rows import Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Given to a view to draw."""

    fleet: Fleet
    now_s: float
    """In seconds since the epoch, by this machine's clock."""
    left_out: int = 0
    """How many messages went before they were taken into the picture."""
    place: Place | None = None
    """The appliance that was chosen, and a tenant of it."""
    filter_text: str = ""

    @property
    def appliance(self) -> ApplianceView | None:
        """The appliance that was chosen, if it was heard of."""
        return None if self.place is None else self.fleet.appliances.get(self.place.appliance)

    @property
    def tenant(self) -> TenantView | None:
        """The tenant that was chosen, if it was heard of."""
        place = self.place
        if place is None or place.tenant is None:
            return None
        return self.fleet.tenants.get((place.appliance, place.tenant))
