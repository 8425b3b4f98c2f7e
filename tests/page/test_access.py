"""Who gets in, from where, and what they may do."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from selenium.webdriver.common.by import By
from starlette.datastructures import Headers

from appliance.broker import Mosquitto
from appliance.dashboard.gate import session_token
from tests.page.browser import Browser, dashboard, wait_for
from tests.page.conftest import Say
from tests.reports import PREFIX, policy_state, status

pytestmark = pytest.mark.page

PASSWORD = "correct horse"  # noqa: S105


def test_who_knows_the_password_gets_in_and_out_again(
    browser: Browser, own_broker: Mosquitto, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX, dashboard_password=PASSWORD) as url:
        browser.open(f"{url}/appliance/a")
        field = browser.driver.find_element(By.NAME, "password")
        field.send_keys("wrong")
        field.submit()
        browser.wait_for_text("this is not the password")

        field = browser.driver.find_element(By.NAME, "password")
        field.send_keys(PASSWORD)
        field.submit()
        browser.wait_for_text("No appliance has been heard of yet")
        (cookie,) = browser.driver.get_cookies()
        browser.press("Log out")
        browser.wait_for_text("The dashboard's password")
        browser.driver.add_cookie(cookie)
        browser.open(url)

        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        browser.wait_for_text("The dashboard's password")
        assert PASSWORD not in browser.driver.page_source


def test_a_page_that_is_open_ends_with_its_session(
    browser: Browser, own_broker: Mosquitto, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX, dashboard_password=PASSWORD) as url:
        browser.open(url)
        field = browser.driver.find_element(By.NAME, "password")
        field.send_keys(PASSWORD)
        field.submit()
        browser.wait_for_text("No appliance has been heard of yet")
        (cookie,) = browser.driver.get_cookies()

        httpx.post(f"{url}/logout", cookies={cookie["name"]: cookie["value"]})

        browser.wait_for_text("The dashboard's password")


def test_nothing_behind_the_gate_is_told_without_a_session(
    own_broker: Mosquitto, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX, dashboard_password=PASSWORD) as url:
        for path in ("/", "/appliance/a", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"):
            answer = httpx.get(url + path)

            assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path


@pytest.mark.parametrize("other", ['p={"a": "b c"}', "x[y]=1", 'q="open', "flag", "k=\xe9"])
def test_cookies_of_other_servers_on_the_host_keep_nobody_out(other: str) -> None:
    headers = Headers({"host": "box:8088", "cookie": f"{other}; delen_session_8088=mine; z=1"})

    assert session_token(headers) == "mine"


def test_two_dashboards_on_a_host_do_not_log_each_other_out(
    own_broker: Mosquitto, folder: Path
) -> None:
    with (
        dashboard(own_broker, folder, prefix=PREFIX, dashboard_password=PASSWORD) as one,
        dashboard(own_broker, folder, prefix=PREFIX, dashboard_password=PASSWORD) as other,
        httpx.Client(follow_redirects=True) as browser,
    ):
        for url in (one, other):
            browser.post(f"{url}/login", data={"password": PASSWORD})

        pages = [browser.get(url) for url in (one, other)]

    assert [page.url.path for page in pages] == ["/", "/"]


def test_attempts_to_log_in_are_limited(own_broker: Mosquitto, folder: Path) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX, dashboard_password=PASSWORD) as url:
        answers = [httpx.post(f"{url}/login", data={"password": "x"}) for _ in range(6)]

        assert "too many attempts" in answers[-1].text
        assert "too many attempts" in httpx.post(f"{url}/login", data={"password": PASSWORD}).text


def test_a_page_of_another_origin_gets_no_socket_and_no_form(
    own_broker: Mosquitto, folder: Path
) -> None:
    socket = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
               "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        foreign = {"origin": "http://elsewhere.example"}

        assert httpx.get(url + socket, headers={**upgrade, **foreign}).status_code == 403
        assert httpx.post(f"{url}/login", headers=foreign).status_code == 403


def test_without_a_password_other_names_of_this_machine_are_refused(
    own_broker: Mosquitto, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        rebound = httpx.get(url, headers={"host": "elsewhere.example"})

        assert rebound.status_code == 403
        assert "default-src 'self'" in rebound.headers["content-security-policy"]


def test_without_a_password_it_listens_on_this_machine_only(folder: Path) -> None:
    started = started_with(folder, DELEN_DASHBOARD_HOST="0.0.0.0")  # noqa: S104

    assert started.returncode == 1
    assert "without a password" in started.stderr


def test_a_port_that_is_taken_is_told_of(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        started = started_with(folder, DELEN_DASHBOARD_PORT=str(other.getsockname()[1]))

    assert started.returncode == 1
    assert "DELEN_DASHBOARD_PORT" in started.stderr


def started_with(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What became of a dashboard that cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "appliance.cli", "dashboard"],
        env={"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_password_nothing_can_be_pushed(
    browser: Browser, own_broker: Mosquitto, say: Say, folder: Path
) -> None:
    with dashboard(own_broker, folder, prefix=PREFIX) as url:
        say(status("a", "online"), policy_state("gate", "a", retained=True))
        browser.open(f"{url}/policy/a/gate")
        browser.wait_for_text("Read-only: to push policies, give the dashboard a password")

        wait_for(lambda: not browser.button("Push").is_enabled(), "a button that stays grey")
