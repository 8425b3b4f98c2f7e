"""The fleet: who is there, what it takes, who keeps its bounds least."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical

from appliance.top.figures import Figures
from appliance.top.headings import table_heading
from appliance.top.look import Look
from appliance.top.rows import APPLIANCE_COLUMNS, FLEET_TENANT_COLUMNS
from appliance.top.summary import EMPTY, appliance_rows, summary_text, tenant_rows
from appliance.top.table import FleetTable


class FleetView(Vertical):
    """All appliances, and all tenants; those first that keep their bounds least."""

    def compose(self) -> ComposeResult:
        yield Figures(id="summary", classes="figures")
        yield Figures(id="appliances-heading", classes="heading")
        yield FleetTable(APPLIANCE_COLUMNS, table_id="appliances", sort_by="appliance")
        yield Figures(id="fleet-tenants-heading", classes="heading")
        yield FleetTable(FLEET_TENANT_COLUMNS, table_id="fleet-tenants", sort_by="kept")

    def show(self, look: Look) -> None:
        """Brings it up to date."""
        fleet, summary = look.fleet, look.fleet.summary(look.now_s)
        unread = fleet.faulty + fleet.left_out + look.left_out
        self.query_one("#summary", Figures).show(
            summary_text(summary, unread=unread) if fleet.appliances else Text(EMPTY)
        )
        appliances = self.query_one("#appliances", FleetTable)
        appliances.show(appliance_rows(look, summary), look.filter_text)
        self.query_one("#appliances-heading", Figures).show(
            table_heading("Appliances", appliances.matching, look.filter_text)
        )
        tenants = self.query_one("#fleet-tenants", FleetTable)
        tenants.show(tenant_rows(look), look.filter_text)
        self.query_one("#fleet-tenants-heading", Figures).show(
            table_heading("Tenants", tenants.matching, look.filter_text)
        )
