"""Takes the pictures of the dashboard in docs/ anew: `python -m tests.page.pictures`."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image

from appliance import manifest
from appliance.broker import Mosquitto
from appliance.demo.scene import APPLIANCE, Scene
from appliance.fleet.reports import Received
from appliance.session import Session
from tests.appliances import address
from tests.page.browser import Browser, dashboard, wait_for
from tests.reports import PREFIX, appliance_telemetry, status, tenant_telemetry

DOCS = Path(__file__).parents[2] / "docs"
ENGINE = Path(__file__).parents[2] / "engines" / "digits"

DEMO_S = 70.0
TAKEN_AT_S = 60.0
SETTLE_S = 3.0
COLOURS = 256

SITES = {"bakery": ("gate", "oven"), "mill": ("gate", "press", "scale"), "roof": ("birds",)}


def main() -> None:
    browser = Browser()
    try:
        take_fleet(browser)
        take_demo(browser)
    finally:
        browser.close()


def take_fleet(browser: Browser) -> None:
    """A scripted fleet, on a desk and on a phone."""
    with (
        tempfile.TemporaryDirectory() as name,
        Mosquitto(folder=Path(name) / "broker") as broker,
        dashboard(broker, Path(name), prefix=PREFIX) as url,
        Session(address(broker)) as client,
    ):
        for message in scripted_fleet():
            client.publish(message.topic, message.payload, retain=message.retained)
        take(browser, url, "dashboard-fleet", 1180, 640)
        take(browser, url, "dashboard-phone", 390, 844, dark=True)


def scripted_fleet() -> list[Received]:
    chance = random.Random(3)
    messages = [status("greenhouse", "stopped"), status("gatehouse", "offline")]
    for site, tenants in SITES.items():
        messages.append(status(site, "online"))
        counts = {tenant: chance.randrange(60, 400) for tenant in tenants}
        power_w = 4.0 + chance.random() * 6.0
        messages.append(appliance_telemetry(site, power_w=power_w, tenants=counts, window_s=10.0))
        for tenant, count in counts.items():
            telemetry = tenant_telemetry(
                tenant,
                site,
                exits={"0": count // 2, "1": count // 3, "2": count // 6},
                window_s=10.0,
                p99_ms=15.0 + chance.random() * 24.0,
                bound_kept=1.0 - chance.random() ** 3 * 0.06,
            )
            messages.append(telemetry)
    return messages


def take_demo(browser: Browser) -> None:
    """The demo, live: its tenants and the editor."""
    stop = threading.Event()
    with Scene(manifest.load(ENGINE)) as scene:
        assert scene.dashboard is not None
        for now_s in scene.play(DEMO_S, stop):
            if now_s > TAKEN_AT_S and not stop.is_set():
                url = f"{scene.dashboard}/tenant/{APPLIANCE}/garden"
                take(browser, url, "dashboard-tenant", 1180, 960)
                take(browser, url, "dashboard-tenant-dark", 1180, 960, dark=True)
                take(browser, f"{scene.dashboard}/appliance/{APPLIANCE}", "dashboard-appliance",
                     1180, 960)  # fmt: skip
                url = f"{scene.dashboard}/policy/{APPLIANCE}/gate"
                take(browser, url, "dashboard-policy", 1180, 1290, simulate=True)
                stop.set()


def take(
    browser: Browser,
    url: str,
    name: str,
    width: int,
    height: int,
    *,
    dark: bool = False,
    simulate: bool = False,
) -> None:
    browser.size(width, height, dark=dark)
    browser.open(url)
    time.sleep(SETTLE_S)
    if simulate:
        browser.press("Simulate the last hour")
        wait_for(lambda: browser.row("requests"), "the simulation's figures")
    file = DOCS / f"{name}.png"
    browser.photograph(file)
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


if __name__ == "__main__":
    main()
