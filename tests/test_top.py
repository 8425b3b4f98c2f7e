"""`delen top`: the fleet at a terminal, driven by Textual's own pilot, and once in a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import html
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.pilot import Pilot
from typer.testing import CliRunner, Result

from appliance.broker import Mosquitto
from appliance.cli import top
from appliance.connection import BrokerAddress
from appliance.errors import BrokerError
from appliance.fleet.reports import Received
from appliance.picture import Picture
from appliance.session import Session
from appliance.top.app import TopApp
from appliance.top.gauges import exits_lines
from appliance.top.glyphs import bar, shares, sparkline
from appliance.top.rows import MOST_ROWS, Place
from appliance.top.table import FleetTable
from appliance.watcher import Link, Watcher
from tests.appliances import address
from tests.conftest import StartBroker
from tests.reports import (
    PREFIX,
    appliance_telemetry,
    policy_state,
    result,
    status,
    tenant_telemetry,
)
from tests.waiting import PATIENCE_S, wait_until

NOW_S = 1000.0
BUDGET = {
    "energy_j": 500.0,
    "per_s": 3600.0,
    "left_j": 312.0,
    "remaining": 0.624,
    "ends_in_s": 1380,
}
Script = Callable[[Pilot[None]], Coroutine[Any, Any, None]]


def picture_of(*messages: Received) -> Picture:
    """A picture without a broker, as if there were one."""
    watcher = Watcher(BrokerAddress(host="broker.local", port=1883), prefix=PREFIX)
    watcher.link = Link(connected=True, since_s=0.0)
    picture = Picture(watcher, prefix=PREFIX)
    for message in messages:
        picture.fleet.take(message, NOW_S)
    return picture


def two_appliances() -> Picture:
    return picture_of(
        status("box-1", "online"),
        status("box-2", "stopped"),
        tenant_telemetry("gate", "box-1", exits={"0": 6, "2": 2}, p99_ms=44.0, budget=BUDGET),
        tenant_telemetry("meter", "box-1", bound_kept=0.75, rejections={"429": 3}, rejected=3),
        policy_state("gate", "box-1", version=7),
        appliance_telemetry(
            "box-1",
            power_w=6.25,
            tenants={"gate": 8, "meter": 13},
            rails_w={"VDD_IN": 6.25, "VDD_SOC": 1.5},
            temperatures_c={"tj": 61.5},
            out_of_service={"resnet": "stage 2 raised"},
        ),
    )


def played(picture: Picture, script: Script, *, size: tuple[int, int] = (80, 24)) -> None:
    """Runs the application without a terminal while a script presses its keys."""

    async def play() -> None:
        app = TopApp(picture, broker="broker.local:1883", now_s=lambda: NOW_S + 1.0)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot)

    asyncio.run(play())


def screen(pilot: Pilot[None]) -> str:
    """What is on the screen, its spaces made one."""
    svg = pilot.app.export_screenshot(simplify=True)
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", svg, flags=re.DOTALL)
    return " ".join(html.unescape(body).split())


async def shows(pilot: Pilot[None], *texts: str, do: Callable[[], None] = lambda: None) -> str:
    """The screen, once all those texts are on it; in between something may be done."""
    end_s = time.monotonic() + PATIENCE_S
    while missing := [text for text in texts if text not in screen(pilot)]:
        assert time.monotonic() < end_s, f"{missing} did not come: {screen(pilot)}"
        do()
        await pilot.pause(0.02)
    return screen(pilot)


async def press(pilot: Pilot[None], keys: str, *texts: str) -> str:
    """Presses keys, named with spaces between; the screen, once those texts are on it."""
    await pilot.press(*keys.split())
    return await shows(pilot, *texts)


def test_the_fleet_says_who_is_online_and_who_keeps_its_bounds_least() -> None:
    async def script(pilot: Pilot[None]) -> None:
        shown = await shows(
            pilot,
            "● 1 online ○ 1 stopped power 6.25 W requests 21 /s",
            "worst bound kept 75 % meter on box-1",
            "box-1 ● online 6.25 W 21 /s 0 75 %",
            "q Quit",
        )

        assert shown.index("meter box-1") < shown.index("gate box-1")

    played(two_appliances(), script)


def test_an_appliance_shows_rails_temperatures_and_engines_out_of_service() -> None:
    async def script(pilot: Pilot[None]) -> None:
        shown = await press(
            pilot,
            "2",
            "box-1 ● online",
            "3 W idle; by tegrastats, VDD_IN",
            "engines digits on onnx",
            "resnet is out of service: stage 2 raised",
        )

        assert re.search(r"VDD_IN 6\.25 W ████+ +█ tj 61\.5 °C ███", shown)

    played(two_appliances(), script)


def test_a_tenant_shows_its_times_against_the_bound_its_exits_and_its_budget() -> None:
    picture = two_appliances()
    picture.fleet.take(result("gate", "box-1", label="a cat"), NOW_S)

    async def script(pilot: Pilot[None]) -> None:
        await press(
            pilot,
            "3",
            "gate on box-1 Policy version 7 on digits is in force.",
            "p99 !44 ms █ 110 % of its bound of 40 ms",
            "█ 0: 75% ▓ 2: 25%",
            "312 J for 23 min more",
            "00:16:40 a cat 1 6.1 ms 1.9 mJ condition",
        )

    played(picture, script)


def test_events_list_rejections_policies_and_what_could_not_be_read() -> None:
    picture = two_appliances()
    picture.fleet.take(Received(topic=f"{PREFIX}/gate/telemetry/box-1", payload=b"{"), NOW_S)

    async def script(pilot: Pilot[None]) -> None:
        await press(
            pilot,
            "4",
            "meter box-1 429 too many requests 3",
            "unreadable messages: 1",
            "policy gate on box-1 policy version 7",
        )

    played(picture, script)


def test_enter_leads_to_an_appliance_and_a_tenant_and_escape_back() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await press(pilot, "enter", "engines digits on onnx")
        await press(pilot, "down enter", "meter on box-1")
        await press(pilot, "escape", "engines digits on onnx")
        await press(pilot, "escape", "worst bound kept")

    played(two_appliances(), script)


def test_arrows_go_from_view_to_view_and_n_and_p_from_one_to_the_next() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await press(pilot, "left", "Rejected in the last window")
        await press(pilot, "right", "worst bound kept")
        await press(pilot, "right", "box-1 ● online")
        await press(pilot, "n", "box-2 ○ stopped")
        await press(pilot, "n", "box-1 ● online")
        await press(pilot, "right", "gate on box-1")
        await press(pilot, "n", "meter on box-1")
        await press(pilot, "p", "gate on box-1")

    played(two_appliances(), script)


def test_a_filter_leaves_rows_with_its_text_until_escape() -> None:
    async def script(pilot: Pilot[None]) -> None:
        filtered = await press(pilot, "slash M E T enter", "Tenants 1 with 'MET' in it")
        unfiltered = await press(pilot, "escape", "Tenants 2")

        assert "gate box-1" not in filtered
        assert "gate box-1" in unfiltered
        assert pilot.app.query_one("#appliances").has_focus

    played(two_appliances(), script)


def test_s_sorts_by_the_next_column_and_r_turns_the_order_around() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await press(pilot, "s", "state▲")
        around = await press(pilot, "r", "state▼")

        assert around.index("box-2") < around.index("box-1 ●")

    played(two_appliances(), script)


def test_the_cursor_stays_on_its_row_when_the_order_changes() -> None:
    picture = two_appliances()

    async def script(pilot: Pilot[None]) -> None:
        table = pilot.app.query_one("#fleet-tenants", FleetTable)
        before = table.place
        picture.fleet.take(tenant_telemetry("gate", "box-1", bound_kept=0.0), NOW_S + 1)
        await shows(pilot, "box-1 ● online 6.25 W 21 /s 0 44.4 %")

        assert before == Place(appliance="box-1", tenant="meter")
        assert table.place == before
        assert table.cursor_row == 1

    played(picture, script)


def test_help_comes_and_goes_and_q_quits() -> None:
    async def script(pilot: Pilot[None]) -> None:
        helped = await press(pilot, "question_mark", "sort by the next column")
        assert isinstance(pilot.app, TopApp)
        pilot.app.draw()
        without = await press(pilot, "q")
        await pilot.press("q")

        assert "sort by" in helped
        assert "sort by" not in without
        assert pilot.app.return_code == 0

    played(two_appliances(), script)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 5)])
def test_no_view_is_too_large_for_its_terminal(width: int, height: int) -> None:
    async def script(pilot: Pilot[None]) -> None:
        for key in "1234":
            await pilot.press(key)

            assert pilot.app.screen.max_scroll_x == 0
            for figures in pilot.app.query(".figures"):
                assert figures.region.right <= width

    played(two_appliances(), script, size=(width, height))


def test_at_fifty_columns_figures_remarks_and_keys_are_whole() -> None:
    picture = two_appliances()
    name = "the camera at the northern gate"
    picture.fleet.take(tenant_telemetry(name, "box-1", p99_ms=44.0), NOW_S)
    picture.fleet.take(result("gate", "box-1", label="a cat"), NOW_S)

    async def script(pilot: Pilot[None]) -> None:
        await shows(pilot, "the camer… box-1 10 /s !44 ms 100 %", "? Help", "q Quit")
        await press(pilot, "2", "VDD_IN 6.25 W", "tj 61.5 °C", "3 W idle; by tegrastats, VDD_IN")
        await press(pilot, "3", "gate on box-1 Policy version 7")
        await shows(pilot, "110 % of its bound of 40 ms", "312 J for 23 min more", "█ 0: 75%")
        await shows(pilot, "a cat 1 6.1 ms condition")
        await press(pilot, "4", "meter box-1 429 3")
        await press(pilot, "question_mark", "to the next table", "machine's clock.")

    played(picture, script, size=(50, 30))


HOSTILE = "[red]x[bold]"


def test_what_others_named_is_shown_as_text_and_never_obeyed() -> None:
    picture = picture_of(
        status(HOSTILE, "online"),
        appliance_telemetry(
            HOSTILE,
            rails_w={"\x1b[2J": 1.0},
            temperatures_c={"a\nb": 40.0},
            out_of_service={"[link]": "\x1b]0;t\x07"},
        ),
        tenant_telemetry("שלום", HOSTILE, mode="\x1b[31m[blink]"),
        policy_state("שלום", HOSTILE, engine="\u202egnol"),
        result("שלום", HOSTILE, label="\x9b2J[/]"),
    )

    async def script(pilot: Pilot[None]) -> None:
        shown = " ".join(
            [
                await press(pilot, "1", f"{HOSTILE} ● online", "שלום"),
                await press(
                    pilot, "2", r"\x1b[2J", "a b", r"! [link] is out of service: \x1b]0;t\x07"
                ),
                await press(
                    pilot, "3", r"in its mode \x1b[31m[blink]", r"\u202egnol", r"\x9b2J[/]"
                ),
                await press(pilot, "4", f"שלום on {HOSTILE}"),
            ]
        )

        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", shown)

    played(picture, script, size=(120, 40))


def test_an_empty_fleet_says_what_to_do_in_every_view() -> None:
    async def script(pilot: Pilot[None]) -> None:
        await shows(pilot, "Start one with `delen serve`")
        await press(pilot, "2 n s r", "Nothing was heard of an appliance")
        await press(pilot, "3 n", "No tenant was heard of")
        await press(pilot, "4 enter", "unreadable messages: 0")

    played(picture_of(), script)


def test_a_clock_that_is_off_is_told_and_moves_nothing() -> None:
    picture = two_appliances()
    picture.fleet.take(result("gate", "box-1", arrived_s=NOW_S + 7200.0), NOW_S)

    async def script(pilot: Pilot[None]) -> None:
        await press(pilot, "2", "Its clock is 2 h ahead of this machine's")
        await press(pilot, "3", "00:16:40 7")

    played(picture, script)


def test_more_rows_than_are_shown_are_counted_and_found_by_a_filter() -> None:
    tenants = [tenant_telemetry(f"t{n:03}", "box-1") for n in range(MOST_ROWS + 30)]
    picture = picture_of(status("box-1", "online"), *tenants)

    async def script(pilot: Pilot[None]) -> None:
        await shows(pilot, f"Tenants {MOST_ROWS} of {MOST_ROWS + 30}")
        await press(pilot, "slash 2 2 9", "t229 box-1")

    played(picture, script)


def test_at_a_real_broker_results_come_while_their_tenant_is_shown_and_it_may_go_away(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()

    async def play(watcher: Watcher, client: Session) -> None:
        def tell() -> None:
            for message in (tenant_telemetry("gate", "box"), result("gate", "box", label="a cat")):
                client.publish(message.topic, message.payload)

        app = TopApp(Picture(watcher, prefix=PREFIX), broker=str(address(broker)))
        async with app.run_test() as pilot:
            await shows(pilot, "gate box", do=tell)
            assert not app.picture.fleet.tenants["box", "gate"].replies
            await pilot.press("3")
            await shows(pilot, "a cat", do=tell)
            broker.kill()
            await shows(pilot, "No connection for")
            broker.start()
            await shows(pilot, "Dělen top")

    with Watcher(address(broker), prefix=PREFIX) as watcher, Session(address(broker)) as client:
        asyncio.run(play(watcher, client))


@pytest.fixture
def told_broker(start_broker: StartBroker) -> Mosquitto:
    """A broker that keeps what an appliance and a tenant have told."""
    broker = start_broker()
    messages = (
        status("box", "online"),
        tenant_telemetry("[gate]", "box", p99_ms=44.0),
        appliance_telemetry("box", power_w=6.25, tenants={"[gate]": 10}),
    )
    with Session(address(broker)) as client:
        for message in messages:
            client.publish(message.topic, message.payload, retain=True)
    return broker


def delen_top(port: int, *options: str) -> Result:
    app = typer.Typer()
    top.register(app)
    environment = {"DELEN_MQTT_HOST": "127.0.0.1", "DELEN_MQTT_PORT": str(port)}
    return CliRunner().invoke(app, list(options), env=environment)


def test_once_prints_tables_for_people(told_broker: Mosquitto) -> None:
    outcome = delen_top(told_broker.port, "--once")

    words = " ".join(outcome.stdout.split())
    assert outcome.exit_code == 0
    assert "● 1 online power 6.25 W requests 10 /s" in words
    assert re.search(r"\[gate\] box policy 10 /s 22 ms !44 ms 40 ms 100 %", words)


def test_once_as_json_prints_one_object_for_programs(told_broker: Mosquitto) -> None:
    outcome = delen_top(told_broker.port, "--once", "--json")

    said = json.loads(outcome.stdout)
    assert said["fleet"]["worst_bound_kept"]["tenant"] == "[gate]"
    assert said["appliances"][0]["standing"] == "online"
    assert said["appliances"][0]["telemetry"]["power"]["power_w"] == 6.25
    assert said["tenants"][0]["telemetry"]["response_time_ms"]["p99"] == 44.0


def test_without_a_broker_once_says_so_and_fails() -> None:
    outcome = delen_top(1, "--once", "--within", "0.3")

    assert isinstance(outcome.exception, BrokerError)
    assert "127.0.0.1:1 cannot be reached" in str(outcome.exception)


def test_where_there_is_no_terminal_it_names_the_options_for_scripts() -> None:
    outcome = delen_top(1)

    assert outcome.exit_code == 2
    assert "--once or --json" in outcome.stderr


def test_a_real_terminal_is_left_as_it_was_when_it_is_told_to_end(told_broker: Mosquitto) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {
        **os.environ, "TERM": "xterm-256color", "NO_COLOR": "1",
        "DELEN_MQTT_HOST": "127.0.0.1", "DELEN_MQTT_PORT": str(told_broker.port),
    }  # fmt: skip
    command = [sys.executable, "-m", "appliance.cli", "top"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    ) as process:
        os.close(theirs)
        drawn = bytearray()

        wait_until(lambda: b"6.25 W" in _read(ours, drawn))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: b"\x1b[?1049l" in _read(ours, drawn))

        assert process.wait(PATIENCE_S) == 0
    colours = re.findall(rb"\x1b\[[\d;]*\b(?:3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", bytes(drawn))
    assert not colours


def _read(terminal: int, drawn: bytearray) -> bytearray:
    """What was drawn so far."""
    while select.select([terminal], [], [], 0)[0]:
        try:
            drawn += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
    return drawn


@settings(max_examples=50)
@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 80))
def test_a_bar_has_as_many_cells_as_it_should(fraction: float, cells: int) -> None:
    assert cell_len(bar(fraction, cells)) == cells


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 1e9), max_size=70), st.integers(0, 80))
def test_shares_add_up_to_all_cells(parts: list[float], cells: int) -> None:
    assert sum(shares(parts, cells)) == (cells if sum(parts) > 0.0 else 0)


@settings(max_examples=50)
@given(st.lists(st.floats(width=32), max_size=200), st.integers(0, 80))
def test_a_sparkline_has_as_many_cells_as_it_should(figures: list[float], cells: int) -> None:
    assert cell_len(sparkline(figures, cells)) == cells


def test_a_sparkline_ends_with_the_newest_and_leaves_a_gap_for_what_is_no_figure() -> None:
    assert sparkline([9.0, 0.0, float("nan"), 1.0, 2.0], 4) == "▁ ▅█"
    assert sparkline([1.0, 2.0], 3, most=8.0) == " ▂▃"


def test_the_meaning_of_many_exits_stands_below_their_bar() -> None:
    few, many = exits_lines({0: 6, 1: 2}, 78), exits_lines(dict.fromkeys(range(12), 1), 78)

    assert [line.plain.count("0: ") for line in few] == [1]
    assert [line.plain.count("11: 8%") for line in many] == [0, 1]
