"""Which backend runs an engine, and the sentence that says why; with doubles for TensorRT."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from appliance import diagnosis, manifest
from appliance.backends import builds, choice
from appliance.backends.choice import opened
from appliance.broker import Mosquitto
from appliance.cli import run
from appliance.engine import Build, Engine, Precision
from appliance.errors import EngineError
from appliance.settings import BackendName
from tests.appliances import Watch, client_of, push, serving, settings_for
from tests.doubles.board import Board
from tests.doubles.installed import doubles
from tests.doubles.plans import planned
from tests.engines import tiny_engine

DEVICE = "Double sm_87 with 8 multiprocessors"
BUILD = Build(
    tensorrt="10.3.0",
    device=DEVICE,
    precision=Precision.FP16,
    batches=(1, 4),
)


@pytest.fixture
def board() -> Iterator[Board]:
    with doubles(Board()) as board:
        yield board


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine with plans that were built for the double's board, as its manifest says."""
    folder = tiny_engine(tmp_path / "engines" / "tiny")
    manifest.save(replace(planned(manifest.load(folder)), build=BUILD), folder)
    return manifest.load(folder)


def chosen(engine: Engine, name: str = choice.AUTO) -> str:
    with opened(engine, name, threads=1) as backend:
        return backend.name


def test_every_backend_that_can_be_named_is_there() -> None:
    assert set(get_args(BackendName)) == {choice.AUTO, *choice.BACKENDS}


@pytest.mark.usefixtures("board")
def test_auto_takes_tensorrt_where_it_works(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert chosen(engine) == "tensorrt"

    assert "engine tiny runs on tensorrt" in caplog.text


def test_auto_takes_onnx_runtime_where_there_is_no_tensorrt(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert chosen(engine) == "onnx"

    assert "engine tiny runs on onnx; not on tensorrt: tensorrt does not load" in caplog.text


def test_a_container_without_the_nvidia_runtime_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libcuda.so.1: cannot open it')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(EngineError, match=r"tensorrt does not load .*`runtime: nvidia`"):
        choice.here()


def test_auto_takes_onnx_runtime_where_there_is_no_device(
    board: Board, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    board.devices = 0

    with caplog.at_level(logging.INFO):
        assert chosen(engine) == "onnx"

    assert "not on tensorrt: there is no CUDA device" in caplog.text


def test_auto_takes_onnx_runtime_where_a_plan_does_not_open(
    board: Board, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    (engine.folder / "stage2.plan").write_bytes(b"nonsense")

    with caplog.at_level(logging.INFO):
        assert chosen(engine) == "onnx"

    assert "stage2.plan cannot be opened by TensorRT" in caplog.text
    assert board.is_clean


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            replace(BUILD, tensorrt="8.6.1"),
            f"were built by 8.6.1 for {DEVICE}, here is 10.3.0",
        ),
        (
            replace(BUILD, device="Orin sm_87"),
            f"for Orin sm_87, here is 10.3.0 on {DEVICE}",
        ),
        (None, "does not say what the TensorRT plans were built for"),
    ],
)
def test_plans_for_anything_else_are_refused_with_the_command_that_builds_them(
    engine: Engine, build: Build | None, said: str
) -> None:
    with pytest.raises(EngineError) as error:
        chosen(replace(engine, build=build), "tensorrt")

    options = "" if build is None else " --precision fp16 --batch 1,4"
    assert said in str(error.value)
    assert f"build them with `delen compile {engine.folder}{options}`" in str(error.value)


@pytest.mark.usefixtures("board")
def test_a_missing_plan_is_named_and_the_engine_still_loads(engine: Engine) -> None:
    (engine.folder / "stage3.plan").unlink()
    loaded = manifest.load(engine.folder)

    with pytest.raises(EngineError, match=r"the TensorRT plan .*stage3\.plan is missing: build"):
        chosen(loaded, "tensorrt")
    assert chosen(loaded) == "onnx"


@pytest.mark.usefixtures("board")
def test_an_engine_without_plans_says_how_to_build_some(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "tiny"))

    with pytest.raises(EngineError, match="stage 0 of tiny has no TensorRT plan: build them with"):
        chosen(engine, "tensorrt")


def test_a_folder_with_a_space_in_its_name_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    engine = manifest.load(tiny_engine(tmp_path / "my engine"))

    assert f"`delen compile '{tmp_path}/my engine'`" in builds.rebuild(engine)


def test_where_nothing_opens_the_reasons_are_given(engine: Engine) -> None:
    (engine.folder / "stage1.onnx").write_bytes(b"nonsense")

    with pytest.raises(EngineError, match=r"tensorrt does not load .*; .*stage1\.onnx cannot be"):
        chosen(engine)


@pytest.mark.parametrize(
    ("name", "provider"),
    [("onnx-cuda", "CUDAExecutionProvider"), ("onnx-tensorrt", "TensorrtExecutionProvider")],
)
def test_a_provider_that_onnx_runtime_was_built_without_is_named(
    engine: Engine, name: str, provider: str
) -> None:
    with pytest.raises(EngineError, match=f"here has no {provider}: install a build that has"):
        chosen(engine, name)


@pytest.mark.usefixtures("board")
def test_the_doctor_says_what_an_engine_runs_on(
    engine: Engine, broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_for(broker, tmp_path)

    findings = {finding.subject: finding for finding in diagnosis.engines(settings)}

    assert engine.folder == settings.engines / "tiny"
    assert findings["engine tiny"].detail.startswith("4 stages run on tensorrt")
    assert "plans of tiny" not in findings


@pytest.mark.usefixtures("engine")
def test_the_doctor_says_why_plans_are_not_used(broker: Mosquitto, tmp_path: Path) -> None:
    settings = settings_for(broker, tmp_path)

    findings = {finding.subject: finding for finding in diagnosis.engines(settings)}

    assert findings["engine tiny"].detail.startswith("4 stages run on onnx")
    assert "tensorrt does not load" in findings["plans of tiny"].detail
    assert not findings["plans of tiny"].stops_serving


def test_an_appliance_serves_on_the_double_and_gives_all_back(
    engine: Engine, board: Board, broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_for(broker, tmp_path, backend="tensorrt")
    frame = tmp_path / "frame.npy"
    np.save(frame, np.full((1, 8, 8), 0.5, np.float32))

    with serving(settings), client_of(settings) as client:
        push(client, f"tenant: gate\nversion: 1\nengine: {engine.name}\n")
        results = Watch(client, client.topics.result("gate", "north"))
        client.publish(client.topics.request("gate", "north"), frame.read_bytes())
        _, result = results.next()

    assert b'"exit":3' in result
    assert b'"label":"bright"' in result
    assert board.graph_launches > 0
    assert board.is_clean


def test_serving_with_compile_auto_builds_before_it_goes_online(
    engine: Engine, broker: Mosquitto, tmp_path: Path
) -> None:
    settings = settings_for(broker, tmp_path)
    environment = {
        "DELEN_COMPILE": "auto",
        "DELEN_ENGINES": str(engine.folder.parent),
        "DELEN_CONDITIONS": str(settings.conditions),
        "DELEN_DATABASE": str(settings.database),
        "DELEN_MQTT_PORT": str(settings.mqtt_port),
        "DELEN_TOPIC_PREFIX": settings.topic_prefix,
        "DELEN_METER": "modelled",
    }

    first, _, _ = ended_after_its_first_line("-m", "appliance.cli", "serve", **environment)

    assert "no TensorRT plans are built: tensorrt does not load" in first


BUILDS_FOR_EVER = """
import threading
from appliance.cli.main import command_line
from tests.doubles.board import Board
from tests.doubles.installed import doubles

with doubles(Board()):
    import tensorrt
    tensorrt.Builder.build_serialized_network = lambda *_: threading.Event().wait()
    command_line("serve")(["serve"])
"""


def test_a_signal_ends_what_builds_plans_at_the_start(tmp_path: Path) -> None:
    tiny_engine(tmp_path / "engines" / "tiny")
    environment = {"DELEN_COMPILE": "auto", "DELEN_ENGINES": str(tmp_path / "engines")}

    first, rest, code = ended_after_its_first_line("-c", BUILDS_FOR_EVER, **environment)

    assert "building TensorRT plans of tiny" in first
    assert "stopped while TensorRT plans were built" in rest
    assert code == 0


def ended_after_its_first_line(*arguments: str, **environment: str) -> tuple[str, str, int]:
    """What a Python process says on standard error, first and then, and its exit code."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.terminate()
        rest = process.stderr.read()
    return first, rest, process.returncode


def test_delen_run_takes_the_backend_that_is_named(engine: Engine) -> None:
    app = typer.Typer()
    run.register(app)

    words = [str(engine.folder), "--backend", "tensorrt", "--seconds", "0"]
    outcome = CliRunner().invoke(app, words)

    assert isinstance(outcome.exception, EngineError)
    assert "tensorrt does not load" in str(outcome.exception)
