"""The policy editor, in a real browser and with a real appliance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from appliance.broker import Mosquitto
from appliance.messages import Result
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import address, client_of, push, serving, settings_for
from tests.conftest import StartBroker
from tests.engines import tiny_engine
from tests.gate import npy
from tests.page.browser import Browser, dashboard, wait_for
from tests.reports import PREFIX, policy_state

pytestmark = pytest.mark.page

PASSWORD = "correct horse"  # noqa: S105
POLICY = "tenant: gate\nversion: {}\nengine: tiny\nbounds:\n  response_time: {}\n"
REQUESTS = 12


@pytest.fixture
def box(own_broker: Mosquitto, tmp_path: Path) -> Settings:
    """An appliance's settings; the engine is one whose answers can be foretold."""
    tiny_engine(tmp_path / "engines" / "tiny")
    return settings_for(own_broker, tmp_path)


@contextmanager
def editing(
    browser: Browser, broker: Mosquitto, box: Settings, folder: Path, **settings: object
) -> Iterator[str]:
    """The editor of the tenant `gate`, by somebody who has logged in."""
    with dashboard(
        broker, folder, prefix=box.topic_prefix, dashboard_password=PASSWORD, **settings
    ) as url:
        browser.open(url)
        log_in(browser)
        wait_for(lambda: browser.row(box.appliance_id), "the appliance")
        browser.open(f"{url}/policy/{box.appliance_id}/gate")
        wait_for(lambda: "version: 2" in browser.editor_text(), "the next version in the editor")
        yield url


def log_in(browser: Browser) -> None:
    field = browser.driver.find_element(By.NAME, "password")
    field.send_keys(PASSWORD)
    field.submit()
    browser.wait_for_text("Log out")


def _on_the_box(box: Settings) -> dict[str, object]:
    return {"appliance_id": box.appliance_id, "database": box.database, "engines": box.engines}


def test_problems_are_shown_at_their_lines_while_typing(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box), client_of(box) as client:
        push(client, POLICY.format(1, "40ms"))
        with editing(browser, own_broker, box, tmp_path, **_on_the_box(box)):
            browser.wait_for_text("Nothing is wrong with it.")

            browser.write("tenant: gate\nversion: 2\nengine: tiny\nbounds:\n  respons_time: 1s\n")

            browser.wait_for_text("1 problem")
            browser.wait_for_text("line 5:3")
            browser.wait_for_text("did you mean `response_time`?")
            marked = browser.script(
                "return [...document.querySelectorAll('.cm-problem')].map(l => l.innerText)"
            )
            assert [line.strip() for line in marked] == ["respons_time: 1s"]
            push_button = browser.driver.find_element(
                By.XPATH, "//button[normalize-space(.)='Push']"
            )
            assert not push_button.is_enabled()


def test_the_exits_of_the_draft_are_explained(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box), client_of(box) as client:
        push(client, POLICY.format(1, "40ms"))
        with editing(browser, own_broker, box, tmp_path, **_on_the_box(box)):
            browser.write(
                "tenant: gate\nversion: 2\nengine: tiny\nbounds: {energy: 35mJ, accuracy: 60%}\n"
            )

            wait_for(lambda: browser.row("2")[-1:] == ["energy"], "what exit 2 breaks")
            assert browser.row("0")[-1:] == ["accuracy"]
            assert browser.row("1")[1:4] == ["2 ms", "30 mJ", "70 %"]


def test_a_pushed_policy_is_watched_until_it_is_in_force(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box), client_of(box) as client:
        push(client, POLICY.format(1, "40ms"))
        with editing(browser, own_broker, box, tmp_path):
            browser.write(POLICY.format(2, "80ms"))
            browser.wait_for_text("Nothing is wrong with it.")

            browser.press("Push")

            browser.wait_for_text(f"version 2 is in force on {box.appliance_id}")
            wait_for(lambda: browser.row(box.appliance_id)[1] == "version 2", "its report")
            wait_for(lambda: "version: 3" in browser.editor_text(), "the version after it")


def test_a_broker_that_takes_no_policy_from_the_dashboard_is_told_of(
    browser: Browser, start_broker: StartBroker, folder: Path
) -> None:
    users = {"viewer": "v", "script": "s"}
    rights = "user viewer\ntopic read delen/v1/#\nuser script\ntopic readwrite delen/v1/#\n"
    broker = start_broker(users=users, acl=rights)
    state = policy_state("gate", "a", document=POLICY.format(1, "40ms"), retained=True)
    script = address(broker, username="script", password="s")  # noqa: S106
    viewer = {"mqtt_username": "viewer", "mqtt_password": "v", "dashboard_password": PASSWORD}
    with Session(script) as client, dashboard(broker, folder, prefix=PREFIX, **viewer) as url:
        client.publish(state.topic, state.payload, retain=True)
        browser.open(url)
        log_in(browser)
        browser.open(f"{url}/policy/a/gate")
        wait_for(lambda: "version: 2" in browser.editor_text(), "the next version in the editor")

        browser.press("Push")

        browser.wait_for_text("the broker did not take it: Not authorized")


def test_two_people_who_edit_one_policy_are_shown_each_others_version(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box), client_of(box) as client:
        push(client, POLICY.format(1, "40ms"))
        with editing(browser, own_broker, box, tmp_path):
            browser.write(POLICY.format(2, "80ms"))
            browser.wait_for_text("Nothing is wrong with it.")

            push(client, POLICY.format(2, "123ms"))

            browser.wait_for_text("409: somebody else pushed meanwhile")
            browser.wait_for_text("response_time: 123ms")
            assert "response_time: 80ms" in browser.editor_text()
            browser.press("Keep mine as the next version")
            wait_for(lambda: "version: 3" in browser.editor_text(), "the next version")
            browser.press("Push")
            browser.wait_for_text(f"version 3 is in force on {box.appliance_id}")


def test_the_appliances_refusal_is_shown(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box), client_of(box) as client:
        push(client, POLICY.format(1, "40ms"))
        with editing(browser, own_broker, box, tmp_path):
            # The desk has no engines: only the appliance knows that there is none of this name.
            browser.write("tenant: gate\nversion: 2\nengine: elsewhere\n")
            browser.wait_for_text("Nothing is wrong with it.")

            browser.press("Push")

            browser.wait_for_text("422 invalid policy")


def test_a_draft_is_simulated_under_the_boxs_log_beside_what_happened(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box), client_of(box) as client:
        push(client, POLICY.format(1, "10s"))
        for _ in range(REQUESTS):
            assert isinstance(client.infer("gate", npy()), Result)
        with editing(browser, own_broker, box, tmp_path, **_on_the_box(box)):
            browser.wait_for_text("Played from this box's inference log")
            browser.write("tenant: gate\nversion: 2\nengine: tiny\nexit_when: exit >= 0\n")
            browser.wait_for_text("Nothing is wrong with it.")

            browser.press("Simulate the last hour")

            wait_for(lambda: browser.row("requests"), f"figures in\n{browser.text()}")
            assert browser.row("requests")[1:] == [str(REQUESTS), str(REQUESTS)]
            assert browser.row("exit 0")[2] == "100 %"
            assert browser.row("exit 3")[1] == "100 %"


def test_on_a_desk_a_draft_is_simulated_under_what_telemetry_told(
    browser: Browser, own_broker: Mosquitto, box: Settings, tmp_path: Path
) -> None:
    with serving(box) as service, client_of(box) as client:
        push(client, POLICY.format(1, "10s"))
        with editing(browser, own_broker, box, tmp_path, engines=box.engines):
            browser.wait_for_text("is not on this machine: played are as many requests")
            for _ in range(REQUESTS):
                assert isinstance(client.infer("gate", npy()), Result)

            def is_simulated() -> bool:
                service.tell()
                browser.press("Simulate the last hour")
                return browser.row("requests")[1:] == [str(REQUESTS), str(REQUESTS)]

            wait_for(is_simulated, "all requests of the tenant")
