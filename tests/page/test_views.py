"""The dashboard's views in a real browser, against scripted appliances on a real broker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from appliance.broker import Mosquitto
from appliance.fleet import words
from appliance.fleet.reports import Received
from appliance.topics import MAX_LEVEL_BYTES
from tests.page.browser import Browser, dashboard, wait_for
from tests.page.conftest import Say
from tests.reports import (
    PREFIX,
    TOPICS,
    appliance_telemetry,
    policy_state,
    result,
    status,
    tenant_telemetry,
)

pytestmark = pytest.mark.page

CONNECTED = "connected, times in UTC"
"""What stands in the bar once telemetry is heard."""

HOSTILE = "<img src=x onerror=document.title='owned'>"


def test_the_fleet_is_shown_with_its_figures(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text("No appliance has been heard of yet")
        browser.wait_for_text(CONNECTED)

        say(
            status("a", "online"),
            status("b", "stopped"),
            status("c", "offline"),
            appliance_telemetry("a", power_w=6.25, tenants={"gate": 20}, window_s=2.0),
            tenant_telemetry("gate", "a", bound_kept=0.75),
        )

        browser.wait_for_tile("Appliances", "1 online")
        browser.wait_for_tile("Power", "6.25 W")
        browser.wait_for_tile("Requests", "10 /s")
        browser.wait_for_tile("Worst bound kept", "75 %")
        assert browser.row("a")[1:4] == ["online", "6.25 W", "10 /s"]
        assert browser.row("b")[1] == "stopped"
        assert browser.row("c")[1] == "offline"


def test_an_appliance_is_shown_with_rails_engines_meter_and_tenants(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(f"{url}/appliance/a")
        browser.wait_for_text("Nothing was heard of an appliance a")
        browser.wait_for_text(CONNECTED)

        for power_w in (5.0, 7.5):
            say(
                status("a", "online"),
                appliance_telemetry(
                    "a",
                    power_w=power_w,
                    rails_w={"VDD_IN": power_w, "VDD_SOC": 1.5},
                    temperatures_c={"cpu": 45.0, "gpu": 51.5},
                    queue_length=3,
                ),
            )
        say(tenant_telemetry("gate", "a", p99_ms=20.0))

        browser.wait_for_tile("Power", "7.5 W")
        browser.wait_for_tile("Waiting", "3")
        browser.wait_for_tile("Hottest", "51.5 °C")
        browser.wait_for_tile("Meter", "tegrastats")
        assert browser.row("digits")[1:] == ["onnx", "open"]
        browser.wait_for_line("Power of the rails, in W", "VDD_IN", [5.0, 7.5])
        browser.wait_for_line("Temperatures, in °C", "gpu", [51.5, 51.5])
        wait_for(lambda: "20 ms" in browser.row("gate"), "the tenant's p99")


def test_a_tenant_is_shown_with_times_exits_budget_replies_and_changes(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    budget = {"energy_j": 10.0, "per_s": 60.0, "left_j": 4.0, "remaining": 0.4, "ends_in_s": 30.0}
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text(CONNECTED)
        say(status("a", "online"), policy_state("gate", "a", version=1, retained=True))
        browser.open(f"{url}/tenant/a/gate")
        browser.wait_for_text("Policy version 1 on digits is in force.")

        say(tenant_telemetry("gate", "a", exits={"0": 6, "2": 2}, p99_ms=20.0, budget=budget))
        say(tenant_telemetry("gate", "a", exits={"0": 4}, p99_ms=30.0, mode="saver", budget=budget))
        say(policy_state("gate", "a", version=2))

        def reply_is_seen() -> bool:
            say(result("gate", "a", arrived_s=time.time(), label="seven", exit=2))
            return "seven" in browser.text()

        wait_for(reply_is_seen, "a result in the list")
        browser.wait_for_tile("p99 response time", "30 ms")
        browser.wait_for_tile("Budget left", "40 %")
        browser.wait_for_tile("Energy each", "2 mJ")
        browser.wait_for_tile("Confidence", "0.9")
        browser.wait_for_text("policy version 2")
        browser.wait_for_text("mode saver")
        times, exits = "Response time against its bound, in ms", "Exits taken, in answers a second"
        browser.wait_for_line(times, "p99", [20.0, 30.0])
        browser.wait_for_line(times, "bound", [40.0, 40.0])
        browser.wait_for_line(exits, "exit 0", [6.0, 4.0])
        browser.wait_for_line(exits, "exit 2", [2.0, 0.0])


def test_what_others_wrote_is_shown_as_text(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    tenant = HOSTILE.replace("/", "")
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text(CONNECTED)
        say(
            status(tenant, "online"),
            appliance_telemetry(
                tenant, rails_w={HOSTILE: 1.0, "VDD_IN": 2.0}, meter=HOSTILE, engines=[HOSTILE]
            ),
            tenant_telemetry(tenant, tenant, mode=HOSTILE),
            policy_state(tenant, tenant, engine=HOSTILE, rejection=(422, HOSTILE), retained=True),
            Received(topic=f"{PREFIX}/{tenant}/telemetry/b", payload=b'{"a": NaN}'),
        )
        for path in ("", f"appliance/{tenant}", f"tenant/{tenant}/{tenant}",
                     f"policy/{tenant}/{tenant}"):  # fmt: skip
            browser.open(f"{url}/{path}")
            browser.wait_for_text("onerror")

            assert browser.script("return document.querySelectorAll('img').length") == 0, path
            assert "owned" not in browser.script("return document.title"), path


def test_a_long_name_leaves_its_table_the_figures(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    longest = "W" * MAX_LEVEL_BYTES
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        wait_for(lambda: "connected" in browser.text(), "a connection")
        say(
            status(longest, "online"),
            appliance_telemetry(longest),
            tenant_telemetry(longest, longest),
        )
        for width in (1280, 390):
            browser.size(width, 1000)
            for path in ("", f"appliance/{longest}"):
                browser.open(f"{url}/{path}")
                wait_for(lambda: browser.row(words.short(longest)), "the name")

                assert browser.script(
                    "return [...document.querySelectorAll('.q-table__middle')].every("
                    "table => table.scrollWidth <= table.clientWidth)"
                ), (width, path)


def test_a_message_that_cannot_be_read_is_shown_as_such(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text(CONNECTED)

        say(Received(topic=TOPICS.telemetry("gate", "a"), payload=b'{"tenant": "gate"}'))

        browser.wait_for_text("1 could not be read")
        browser.wait_for_text(f"{PREFIX}/gate/telemetry/a")


def test_a_broker_that_goes_away_is_told_of_and_comes_back(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text(CONNECTED)
        say(status("a", "online"), appliance_telemetry("a"))
        browser.open(url)
        browser.wait_for_tile("Appliances", "1 online")

        own_broker.kill()
        browser.wait_for_text("No connection to the broker")
        assert browser.row("a")
        own_broker.start()

        wait_for(lambda: "No connection" not in browser.text(), "the banner is gone")
        say(status("b", "online"), appliance_telemetry("b"))
        wait_for(lambda: browser.row("b"), "what is told after that")


def test_a_clock_that_is_off_is_told_of(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text(CONNECTED)
        say(status("a", "online"), appliance_telemetry("a"), policy_state("gate", "a"))
        browser.open(f"{url}/tenant/a/gate")

        def reply_is_seen() -> bool:
            say(result("gate", "a", arrived_s=time.time() + 7200.0))
            return "condition" in browser.text()

        wait_for(reply_is_seen, "a result in the list")
        browser.open(f"{url}/appliance/a")

        browser.wait_for_text("Its clock is 2 h ahead of this machine's")


@pytest.mark.parametrize("name", ["%2B", "%23", "x%00y", "appliances"])
def test_an_address_with_a_name_that_is_none_shows_an_empty_page(
    name: str, browser: Browser, own_broker: Mosquitto, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        for page in ("tenant", "policy"):
            browser.open(f"{url}/{page}/a/{name}")

            browser.wait_for_text("Dělen")
            assert "500" not in browser.text()


def test_an_address_of_no_page_leads_to_the_fleet(
    browser: Browser, own_broker: Mosquitto, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(f"{url}/appliances/a/b")
        browser.wait_for_text("There is no such page.")
        browser.driver.find_element(By.LINK_TEXT, "To the fleet").click()

        browser.wait_for_text("No appliance has been heard of yet")


@pytest.mark.parametrize("path", ["", "appliance/a", "tenant/a/gate", "policy/a/gate"])
def test_a_page_fits_a_phone_and_loads_nothing_from_elsewhere(
    path: str, browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text(CONNECTED)
        say(
            status("a", "online"),
            appliance_telemetry("a"),
            tenant_telemetry("gate", "a"),
            policy_state("gate", "a", retained=True),
        )
        browser.size(390, 844, dark=True)
        browser.open(f"{url}/{path}")
        browser.wait_for_text("gate")
        wait_for(lambda: browser.script("return !!document.querySelector('.body--dark')"), "dark")

        assert browser.script("return document.documentElement.scrollWidth") <= 390
        assert browser.addresses() == {"127.0.0.1"}
        assert browser.complaints() == []
