"""Debian's Chromium without a window, and the dashboard as the real command, for the tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    JavascriptException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from appliance.broker import Mosquitto, free_port

WAIT_S = 60.0
_POLL_S = 0.05
_DRAWN_ANEW = (
    ElementClickInterceptedException,
    JavascriptException,
    StaleElementReferenceException,
)


def wait_for(holds: Callable[[], Any], what: str) -> Any:
    """Waits until something is so, and gives what it is; fails with a sentence where it is not.

    A page may be drawn anew between the look for a part of it and the look at that: then it is
    looked for again.
    """
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        with suppress(*_DRAWN_ANEW):
            if found := holds():
                return found
        time.sleep(_POLL_S)
    raise AssertionError(f"after {WAIT_S:g} s still not: {what}")


@contextmanager
def dashboard(broker: Mosquitto, folder: Path, *, prefix: str, **settings: object) -> Iterator[str]:
    """`delen dashboard` in a process of its own, ready; gives its address."""
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DELEN_")
    }
    environment |= {
        "DELEN_MQTT_HOST": broker.host,
        "DELEN_MQTT_PORT": str(broker.port),
        "DELEN_TOPIC_PREFIX": prefix,
        "DELEN_DASHBOARD_PORT": str(port),
        **{f"DELEN_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with (folder / "dashboard.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "dashboard"],
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, "the dashboard listens")
        assert process.poll() is None, (folder / "dashboard.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(WAIT_S)
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Browser:
    """One Chromium. Pages are read as people read them: by the text that they show."""

    def __init__(self) -> None:
        options = Options()
        options.binary_location = _program("chromium")
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb",
        ):  # fmt: skip
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = Service(_program("chromedriver"))
        self.driver = Chrome(options=options, service=service)
        self.size(1280, 1000)

    def close(self) -> None:
        self.driver.quit()

    def forget(self) -> None:
        """All cookies, of whichever server."""
        self._command("Network.clearBrowserCookies", {})

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window, in CSS pixels, and what the system is said to prefer."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", {"features": [scheme]})

    def _command(self, name: str, parameters: Mapping[str, Any]) -> None:
        self.driver.execute_cdp_cmd(name, dict(parameters))

    def open(self, url: str) -> None:
        self.driver.get(url)

    def script(self, text: str) -> Any:
        return self.driver.execute_script(text)

    def text(self) -> str:
        """All that the page shows."""
        return str(self.script("return document.body.innerText"))

    def wait_for_text(self, text: str) -> None:
        wait_for(lambda: text in self.text(), f"{text!r} in\n{self.text()}")

    def tile(self, name: str) -> str:
        """The figure under a name."""
        selector = f'[data-tile="{name}"]'
        return str(self.script(f"return document.querySelector('{selector}')?.innerText ?? ''"))

    def wait_for_tile(self, name: str, value: str) -> None:
        wait_for(lambda: self.tile(name) == value, f"{name}: {value}, but {self.tile(name)}")

    def row(self, text: str) -> list[str]:
        """The cells of the first table row that begins with a text."""
        rows = self.script(
            "return [...document.querySelectorAll('tbody tr')].map("
            "row => [...row.children].map(cell => cell.innerText))"
        )
        return next((row for row in rows if row and row[0] == text), [])

    def series(self, title: str) -> dict[str, list[list[float | None]]]:
        """What the chart under a heading draws: its points by the lines' names."""
        found = self.script(
            "const card = [...document.querySelectorAll('section.card')].find("
            f"card => card.querySelector('h2')?.innerText === {json.dumps(title)});"
            "const chart = card && card.querySelector('.nicegui-echart');"
            "if (!chart) return null;"
            "const options = getElement(parseInt(chart.id.slice(1))).chart.getOption();"
            "return options.series.map(line => [line.name, line.data])"
        )
        return dict(found or [])

    def wait_for_line(self, title: str, name: str, values: list[float]) -> None:
        """Waits until a line of the chart under a heading has these values."""

        def drawn() -> list[float | None]:
            return [value for _, value in self.series(title).get(name, [])]

        wait_for(lambda: drawn() == values, f"{name} of {title!r} is {values}")

    def button(self, label: str) -> WebElement:
        path = f"//button[normalize-space(.)={json.dumps(label)}]"
        found: list[WebElement] = wait_for(
            lambda: self.driver.find_elements(By.XPATH, path), f"a button {label!r}"
        )
        return found[0]

    def press(self, label: str) -> None:
        """Clicks the button with a label, once it can be."""

        def is_pressed() -> bool:
            button = self.button(label)
            enabled = button.is_enabled()
            if enabled:
                button.click()
            return enabled

        wait_for(is_pressed, f"{label!r} can be pressed")

    def write(self, text: str) -> None:
        """Puts a text into the editor, as if pasted over what was there."""
        self.script(
            "const view = getElement(parseInt(document.querySelector('.nicegui-codemirror')"
            ".id.slice(1))).editor;"
            "view.dispatch({changes: {from: 0, to: view.state.doc.length, insert: "
            f"{json.dumps(text)}}}}})"
        )

    def editor_text(self) -> str:
        return str(
            self.script(
                "return getElement(parseInt(document.querySelector('.nicegui-codemirror')"
                ".id.slice(1))).editor.state.doc.toString()"
            )
        )

    def addresses(self) -> set[str]:
        """Where everything came from that was asked for since this was last asked."""
        hosts = set()
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            parameters = message["params"]
            url = parameters.get("request", {}).get("url") or parameters.get("url") or ""
            if message["method"].startswith("Network.") and url.startswith(("http", "ws")):
                hosts.add(urlsplit(url).hostname or "")
        return hosts

    def complaints(self) -> list[str]:
        """What went wrong in the page since this was last asked."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def photograph(self, file: Path) -> None:
        self.driver.save_screenshot(str(file))


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"there is no {name}: sh deploy/install-packages chromium"
    return found
