"""`delen bench`: what it finds of a real appliance, through MLPerf's own LoadGen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from appliance import session as session_module
from appliance.broker import Mosquitto
from appliance.cli import bench
from appliance.load import benchmark, loadgen
from appliance.load.loadgen import DETAIL
from appliance.load.samples import Frame, Sample
from appliance.load.target import Target
from appliance.messages import POLICY_STATE
from appliance.session import Session
from appliance.settings import Settings
from tests.appliances import WAIT_S, Watch, address, client_of, push, serving, settings_for
from tests.engines import tiny_engine

POLICY = "version: 1\nengine: tiny\nexit_when: exit >= 0\n"
QUICK = ("--quick", "--seconds", 0.2)
COMMAND = "import typer; from appliance.cli import bench; a = typer.Typer(); bench.register(a); a()"


def labelled_frames(folder: Path) -> Path:
    """One frame that a tiny engine sees rightly, and one that it does not."""
    for label, brightness in (("bright", 255), ("dim", 254)):
        path = folder / label / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (8, 8), brightness).save(path)
    return folder


def environment_of(settings: Settings) -> dict[str, str]:
    names = ("mqtt_host", "mqtt_port", "topic_prefix", "engines")
    return {f"DELEN_{name.upper()}": str(getattr(settings, name)) for name in names}


def delen_bench(*arguments: object) -> Result:
    app = typer.Typer()
    bench.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def settings(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a running appliance with two tenants that leave at the first exit, and of this process."""
    folder = tmp_path_factory.mktemp("bench")
    labelled_frames(tiny_engine(folder / "engines" / "tiny") / "frames")
    settings = settings_for(broker, folder)
    with ExitStack() as parts:
        environment = parts.enter_context(pytest.MonkeyPatch.context())
        for name, value in environment_of(settings).items():
            environment.setenv(name, value)
        parts.enter_context(serving(settings))
        client = parts.enter_context(client_of(settings))
        for tenant in ("gate", "garden"):
            push(client, f"tenant: {tenant}\n{POLICY}", tenant=tenant)
        yield settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("found")


@pytest.fixture(scope="module")
def summary(settings: Settings, folder: Path) -> dict[str, Any]:
    """What all four scenarios found, on both tenants."""
    assert settings.mqtt_port
    files = ("--png", folder / "load.png", "--log-dir", folder / "logs")
    outcome = delen_bench(*QUICK, "--rate", 100, "--json", *files)

    assert outcome.exit_code == 0, outcome.output
    summary: dict[str, Any] = json.loads(outcome.stdout)
    return summary


def test_every_scenario_has_its_figure_as_mlperf_names_it(summary: dict[str, Any]) -> None:
    figures = {one["scenario"]: one["figure"] for one in summary["scenarios"]}

    assert list(figures) == ["single-stream", "multi-stream", "server", "offline"]
    assert figures["single-stream"]["name"] == "90th percentile of latency"
    assert figures["server"] == {
        "name": "highest rate that keeps the bound",
        "value": 100.0,
        "unit": "queries/s",
    }
    assert all(figure["value"] > 0 for figure in figures.values())


def test_tenants_are_mixed_and_each_has_figures_of_its_own(summary: dict[str, Any]) -> None:
    for one in summary["scenarios"]:
        assert set(one["tenants"]) == {"gate", "garden"}
        for figures in one["tenants"].values():
            assert figures["answered"] == figures["samples"] > 0
            assert figures["rejected"] == {}
            assert figures["exits"] == {"0": figures["answered"]}
            assert figures["energy_mj_per_inference"] > 0
            latency_ms = figures["latency_ms"]
            assert 0 < latency_ms["p50"] <= latency_ms["p90"] <= latency_ms["p99"]
        total = sum(figures["samples"] for figures in one["tenants"].values())
        assert one["total"]["samples"] == total >= benchmark.QUICK_QUERIES


def test_accuracy_counts_the_labels_of_the_folders(summary: dict[str, Any]) -> None:
    for one in summary["scenarios"]:
        assert 0.0 < one["total"]["accuracy"] < 1.0


def test_a_run_below_mlperfs_minimum_says_so(summary: dict[str, Any]) -> None:
    multi_stream = summary["scenarios"][1]

    assert multi_stream["queries"] < multi_stream["least_queries"] == 662
    assert (multi_stream["enough_queries"], multi_stream["valid"]) == (False, False)
    assert "Need to process at least 662 queries" in multi_stream["early_stopping"]


@pytest.mark.usefixtures("summary")
def test_loadgens_own_logs_are_kept_where_they_are_wanted(folder: Path) -> None:
    for scenario in ("single-stream", "multi-stream", "server", "offline"):
        assert "result_validity" in (folder / "logs" / scenario / DETAIL).read_text()


@pytest.mark.usefixtures("summary")
def test_the_picture_is_a_png(folder: Path) -> None:
    assert (folder / "load.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("settings")
def test_the_server_searches_for_its_rate_and_tables_are_for_people(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "QUICK_QUERIES", 10)

    outcome = delen_bench(*QUICK, "--scenario", "server", "--tenant", "gate", "--bound", "40ms")

    assert outcome.exit_code == 0, outcome.output
    assert "server: highest rate that keeps the bound: " in outcome.stdout
    assert "not to be believed: " in outcome.stdout
    assert "in time is within: gate 40 ms" in outcome.stdout
    assert "server: searching, " in outcome.stderr


def test_a_policy_that_was_brought_is_gone_afterwards(settings: Settings, folder: Path) -> None:
    policy = folder / "visitor.yaml"
    policy.write_text(f"tenant: visitor\n{POLICY}bounds: {{response_time: 3s}}\n")

    with client_of(settings) as client:
        states = Watch(client, client.topics.policy_state("visitor", settings.appliance_id))
        outcome = delen_bench(
            *QUICK, "--scenario", "single-stream", "--tenant", f"visitor={policy}", "--json"
        )
        in_force, removed = states.next()[1], states.next()[1]

    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["bounds_ms"] == {"visitor": 3000.0}
    assert POLICY_STATE.validate_json(in_force).version == 1
    assert removed == b""


@pytest.mark.usefixtures("settings")
def test_a_tenant_without_a_policy_is_named_beside_those_that_have_one() -> None:
    outcome = delen_bench(*QUICK, "--tenant", "stranger")

    assert outcome.exit_code == 1
    assert "no appliance has a policy of stranger" in str(outcome.exception)
    assert "tenants there: garden, gate" in str(outcome.exception)


@pytest.mark.usefixtures("settings")
def test_frames_that_the_appliance_turns_away_end_it_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")

    outcome = delen_bench(*QUICK, "--tenant", "gate", "--frames", tmp_path)

    assert outcome.exit_code == 1
    assert "turns the frames of gate away: 415" in str(outcome.exception)


def test_a_missing_loadgen_is_an_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadgen, "find_spec", lambda _: None)

    outcome = delen_bench(*QUICK)

    assert outcome.exit_code == 1
    assert "pip install 'delen[bench]'" in str(outcome.exception)


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CONNECT_S", 0.2)

    outcome = delen_bench(*QUICK, "--host", "127.0.0.1", "--port", 1)

    assert outcome.exit_code == 1
    assert "no broker answers at 127.0.0.1:1" in str(outcome.exception)


@pytest.mark.parametrize(
    "arguments", [("--tenant", "no/tenant"), ("--bound", "soon"), ("--scenario", "rush-hour")]
)
def test_what_cannot_be_meant_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert delen_bench(*QUICK, *arguments).exit_code == 2


def test_a_signal_ends_its_own_appliance_broker_and_load(tmp_path: Path) -> None:
    tiny = tiny_engine(tmp_path / "engines" / "tiny")
    labelled_frames(tiny / "frames")
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--engine", str(tiny), "--scenario", "single-stream"],
        env={**os.environ, "TMPDIR": str(tmp_path), "DELEN_METER": "modelled"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "single-stream" not in process.stderr.readline():
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    _, alive = psutil.wait_procs(children, WAIT_S)

    assert process.returncode != 0
    assert len(children) >= 3  # broker, appliance, load
    assert alive == []
    assert list(tmp_path.glob("delen-*")) == []


def test_what_nobody_replies_to_is_given_up_and_completed(broker: Mosquitto) -> None:
    completed: list[int] = []
    all_completed = threading.Event()

    def complete(query: int) -> None:
        completed.append(query)
        if len(completed) == 3:
            all_completed.set()

    sample = Sample("gate", Frame(b"frame", None))
    with (
        Session(address(broker), prefix="test/nobody") as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("appliance.load.target.LATE_REPLIES_S", 0.0)
        with Target(client, [sample], timeout_s=0.05, outstanding=2, completed=complete) as target:
            target.issue([(11, 0), (12, 0), (13, 0)])
            assert all_completed.wait(WAIT_S)

    assert completed == [11, 12, 13]
    assert target.replies == [(sample, None)] * 3
