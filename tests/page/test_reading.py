"""Whether the pages can be read by everybody and used without a mouse, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from appliance.broker import Mosquitto
from tests.page.browser import Browser, dashboard, wait_for
from tests.page.conftest import Say
from tests.reports import PREFIX, appliance_telemetry, policy_state, status, tenant_telemetry

pytestmark = pytest.mark.page

MOST_STEPS = 60
LEAST_CONTRAST = 4.5
"""Of text against its ground: WCAG 2.2, level AA."""

PAGES = ("", "appliance/a", "tenant/a/gate", "policy/a/gate")

_CONTRASTS = """
const light = colour => {
  const [r, g, b] = colour.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parts = text => text.match(/[\\d.]+/g).map(Number);
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = parts(getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0.99) return colour.slice(0, 3);
  }
  return [255, 255, 255];
};
const hasText = element => [...element.childNodes].some(
  node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
return [...document.querySelectorAll("body *")]
  .filter(element => hasText(element) && element.checkVisibility({visibilityProperty: true}))
  .filter(element => !element.closest("[disabled]"))
  .map(element => {
    const [one, other] = [parts(getComputedStyle(element).color).slice(0, 3), ground(element)]
      .map(light);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return [element.innerText || element.outerHTML.slice(0, 200), contrast];
  });
"""


def tell(say: Say, *, tenants: int = 1) -> None:
    names = ["gate", *(f"t{number:02}" for number in range(1, tenants))]
    say(
        status("a", "online"),
        appliance_telemetry("a"),
        policy_state("gate", "a", retained=True),
        *(tenant_telemetry(name, "a") for name in names),
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(
    dark: bool,  # noqa: FBT001 - a parameter
    browser: Browser,
    own_broker: Mosquitto,
    say: Say,
    folder: Path,
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text("connected")
        tell(say, tenants=60)
        browser.size(1280, 1000, dark=dark)
        for page in PAGES:
            browser.open(f"{url}/{page}")
            browser.wait_for_text("gate")
            wait_for(lambda: _is_dark(browser) == dark, "the colours")

            # The editor takes up the colours a moment later.
            wait_for(lambda: not faint_texts(browser), f"no text on {page!r} is faint")


def test_from_the_fleet_to_a_policy_and_out_of_its_editor_with_the_keyboard_alone(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        browser.open(url)
        browser.wait_for_text("connected")
        tell(say)
        wait_for(lambda: browser.row("a"), "the appliance")

        step_to(browser, "gate")
        press(browser, Keys.ENTER)
        browser.wait_for_text("Edit its policy")
        step_to(browser, "Edit its policy")
        press(browser, Keys.ENTER)
        wait_for(lambda: "version: 2" in browser.editor_text(), "the draft in the editor")
        while not browser.script("return !!document.activeElement.closest('.cm-editor')"):
            press(browser, Keys.TAB)
        press(browser, Keys.ESCAPE)

        step_to(browser, "Simulate the last hour")


def faint_texts(browser: Browser) -> list[tuple[str, float]]:
    """Texts with too little contrast, and how much they have."""
    return [found for found in browser.script(_CONTRASTS) if found[1] < LEAST_CONTRAST]


def step_to(browser: Browser, text: str) -> None:
    """Presses Tab until what has the focus shows a text, and is seen to have it."""
    for _ in range(MOST_STEPS):
        press(browser, Keys.TAB)
        if browser.script("return document.activeElement.innerText.trim()") == text:
            return
    raise AssertionError(f"no Tab leads to {text!r}")


def press(browser: Browser, key: str) -> None:
    browser.driver.switch_to.active_element.send_keys(key)


def _is_dark(browser: Browser) -> bool:
    return bool(browser.driver.find_elements(By.CSS_SELECTOR, ".body--dark"))
