"""`delen compile`, against doubles of `tensorrt` and `pycuda`: nothing here was built for a GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from appliance import manifest
from appliance.backends import choice
from appliance.engine import Build, Engine, Precision
from appliance.errors import ModellingError
from appliance.modelling.calibration_frames import spread
from appliance.modelling.compile import (
    TIMING_CACHE,
    WORKSHOP,
    Compiled,
    Order,
    compile_engine,
    compile_missing,
    settled,
)
from appliance.modelling.plan_check import exit_error
from appliance.plan_folder import RECORD, with_plans
from tests.doubles.board import Board
from tests.doubles.installed import doubles
from tests.engines import seed_engine, tiny_engine
from tests.modelling.runs import delen
from tests.test_run_command import RESNET50

DEVICE = "Double sm_87 with 8 multiprocessors"
BUILD = Build(tensorrt="10.3.0", device=DEVICE, precision=Precision.FP16, batches=(1, 4))


@pytest.fixture
def board() -> Iterator[Board]:
    with doubles(Board()) as board:
        yield board


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An engine's folder, with a few frames."""
    folder = tiny_engine(tmp_path / "tiny")
    (folder / "frames").mkdir()
    for number in range(5):
        frame = np.full((1, 8, 8), number / 5, np.float32)
        np.save(folder / "frames" / f"{number}.npy", frame)
    return folder


def compiled(folder: Path, order: Order | None = None) -> Compiled:
    return compile_engine(manifest.load(folder), order or Order(), lambda _: None)


def answer(engine: Engine, backend: str) -> list[float]:
    """The logits of the last exit for a grey frame."""
    with choice.opened(engine, backend, threads=1) as opened:
        fed = opened.feed(np.full((1, 1, 8, 8), 0.5, np.float32))
        logits, _ = opened.run_through(0, engine.last_exit, [fed])
    found: list[float] = logits[0].tolist()
    return found


@pytest.mark.usefixtures("board")
def test_plans_are_built_and_the_manifest_says_for_what(folder: Path) -> None:
    compiled(folder, Order(precision=Precision.FP16, batches=(1, 4)))

    engine = manifest.load(folder)
    names = [stage.tensorrt.name for stage in engine.stages if stage.tensorrt]
    assert names == [f"stage{number}.plan" for number in range(4)]
    assert engine.build == BUILD
    assert sorted(path.name for path in folder.glob(".*")) == []


@pytest.mark.usefixtures("board")
def test_what_was_built_is_what_auto_runs(folder: Path) -> None:
    compiled(folder)
    engine = manifest.load(folder)

    with choice.opened(engine) as backend:
        assert backend.name == "tensorrt"
    assert answer(engine, "tensorrt") == pytest.approx(answer(engine, "onnx"))


def test_everything_that_building_took_is_given_back(board: Board, folder: Path) -> None:
    compiled(folder, Order(precision=Precision.INT8))

    assert board.is_clean


@pytest.mark.usefixtures("board")
def test_every_exit_is_compared_with_onnx_runtime(folder: Path) -> None:
    found = compiled(folder)

    assert [error.error < 1e-5 for error in found.errors] == [True] * 4
    assert [error.agreement for error in found.errors] == [1.0] * 4
    assert found.frames == 5


def test_plans_that_are_off_are_not_used_and_change_nothing(board: Board, folder: Path) -> None:
    before = (folder / manifest.MANIFEST).read_bytes()
    board.error = 0.03

    with pytest.raises(ModellingError, match=r"off by more than 2\.00% .* exit 0 by 3\.00%"):
        compiled(folder, Order(precision=Precision.FP16))

    assert (folder / manifest.MANIFEST).read_bytes() == before
    assert list(folder.rglob("*.plan")) == []
    assert board.is_clean


def test_a_tolerance_that_the_errors_keep_takes_them_into_use(board: Board, folder: Path) -> None:
    board.error = 0.03

    found = compiled(folder, Order(precision=Precision.FP16, tolerance=0.2))

    assert found.errors[0].error == pytest.approx(0.03, rel=1e-3)
    assert manifest.load(folder).build is not None


@pytest.mark.parametrize(
    ("precision", "flags"),
    [
        (Precision.FP32, []),
        (Precision.FP16, ["FP16"]),
        (Precision.INT8, ["FP16", "INT8"]),
    ],
)
def test_tensorrt_is_asked_for_what_was_ordered(
    board: Board, folder: Path, precision: Precision, flags: list[str]
) -> None:
    compiled(folder, Order(precision=precision, batches=(1, 4), workspace_bytes=3 * 2**20))

    for configuration in board.configurations:
        assert [flag.name for flag in configuration.flags] == flags
        assert configuration.workspace == 3 * 2**20
        assert [profile.shapes["input"] for profile in configuration.profiles] == [
            [(1, 1, 8, 8), (1, 1, 8, 8), (1, 1, 8, 8)],
            [(2, 1, 8, 8), (4, 1, 8, 8), (4, 1, 8, 8)],
        ]
    assert len(board.configurations) == 4


@pytest.mark.usefixtures("board")
def test_a_build_that_is_interrupted_changes_nothing(folder: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_engine(manifest.load(folder), Order(plans=tmp_path / "plans"), interrupt)

    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert [path.name for path in (tmp_path / "plans" / "tiny").iterdir()] == [TIMING_CACHE]


@pytest.mark.usefixtures("board")
def test_what_a_killed_build_left_is_cleared_away(folder: Path) -> None:
    (folder / WORKSHOP).mkdir()
    (folder / WORKSHOP / "stage0.plan").write_bytes(b"half a plan")

    compiled(folder)

    assert not (folder / WORKSHOP).exists()


@pytest.mark.usefixtures("board")
def test_the_timing_cache_is_kept_and_another_versions_is_replaced(folder: Path) -> None:
    (folder / TIMING_CACHE).write_bytes(b"the double's timing cache of 9.0.0")

    compiled(folder)

    assert (folder / TIMING_CACHE).read_bytes().endswith(b"10.3.0")


def test_int8_is_calibrated_with_what_each_stage_is_given(board: Board, folder: Path) -> None:
    compiled(folder, Order(precision=Precision.INT8))

    values = [batch.mean() for batch in board.calibration_batches]
    assert values == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.usefixtures("board")
def test_int8_without_frames_is_refused(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")

    with pytest.raises(ModellingError, match="INT8 needs frames to calibrate with"):
        compiled(folder, Order(precision=Precision.INT8))


@pytest.mark.usefixtures("board")
def test_without_frames_plans_are_checked_with_noise(tmp_path: Path) -> None:
    found = compiled(tiny_engine(tmp_path / "tiny"))

    assert found.frames == 16


def test_tensorrt_11_builds_in_the_types_of_the_onnx_file(folder: Path) -> None:
    with doubles(Board(), version="11.4.0"):
        compiled(folder)

    build = manifest.load(folder).build
    assert build is not None
    assert (build.tensorrt, build.precision) == ("11.4.0", Precision.FP32)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_tensorrt_11_has_no_switch_for_smaller_types(folder: Path, precision: Precision) -> None:
    with (
        doubles(Board(), version="11.4.0"),
        pytest.raises(ModellingError, match=f"no switch for {precision.value}: export the stages"),
    ):
        compiled(folder, Order(precision=precision))


@pytest.mark.usefixtures("board")
def test_a_fixed_batch_of_one_is_built_without_a_profile(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny", fixed_batch=True)

    compiled(folder, Order(batches=(1,)))

    engine = manifest.load(folder)
    assert answer(engine, "tensorrt") == pytest.approx(answer(engine, "onnx"))


@pytest.mark.usefixtures("board")
def test_a_fixed_batch_of_one_is_not_built_for_more(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny", fixed_batch=True)

    with pytest.raises(ModellingError, match=r"stage0\.onnx takes batches of 1 alone"):
        compiled(folder, Order(batches=(1, 8)))


@pytest.mark.usefixtures("board")
def test_a_stage_that_tensorrt_cannot_read_is_named(folder: Path) -> None:
    model = onnx.load(folder / "stage2.onnx")
    model.graph.node[0].op_type = "Unheard"
    onnx.save(model, folder / "stage2.onnx")

    with pytest.raises(ModellingError, match=r"TensorRT cannot read .*stage2\.onnx"):
        compile_stage_two(folder)


@pytest.mark.usefixtures("board")
def test_a_stage_that_takes_something_else_is_named(folder: Path) -> None:
    model = onnx.load(folder / "stage2.onnx")
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "input" else name for name in node.input]
    onnx.save(model, folder / "stage2.onnx")

    with pytest.raises(ModellingError, match=r"stage2\.onnx takes pixels; a stage takes input"):
        compile_stage_two(folder)


def compile_stage_two(folder: Path) -> None:
    """Builds that stage alone: ONNX Runtime, which is asked first, would not open it either."""
    from appliance.backends.cuda import CudaDevice  # noqa: PLC0415 - by now a double's
    from appliance.modelling.tensorrt_builder import PlanOrder, build_plan  # noqa: PLC0415

    order = PlanOrder(
        onnx=folder / "stage2.onnx", precision=Precision.FP32, batches=(1,), workspace_bytes=2**20
    )
    with CudaDevice() as device:
        build_plan(order, device, b"")


@pytest.mark.usefixtures("board")
def test_a_folder_of_delens_own_is_imported_first(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)

    with pytest.raises(ModellingError, match="`delen import-delen`"):
        compiled(folder)


@pytest.mark.usefixtures("board")
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)

    with pytest.raises(ModellingError, match=r"cannot be written \(Read-only file system\)"):
        compiled(folder)


@pytest.mark.usefixtures("board")
def test_plans_apart_leave_the_engines_folder_alone(folder: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))

    compiled(folder, Order(plans=tmp_path / "plans"))

    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    engine = with_plans(manifest.load(folder), tmp_path / "plans")
    with choice.opened(engine) as backend:
        assert backend.name == "tensorrt"


@pytest.mark.usefixtures("board")
def test_plans_of_other_onnx_files_are_not_taken(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiled(folder, Order(plans=tmp_path / "plans"))
    model = onnx.load(folder / "stage1.onnx")
    model.doc_string = "trained anew"
    onnx.save(model, folder / "stage1.onnx")

    engine = with_plans(manifest.load(folder), tmp_path / "plans")

    assert [stage.tensorrt for stage in engine.stages] == [None] * 4
    assert "are of other ONNX files" in caplog.text


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("name", [RECORD, "stage1.plan"])
def test_plans_that_are_links_out_of_their_folder_are_not_taken(
    folder: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    plans = tmp_path / "plans"
    compiled(folder, Order(plans=plans))
    (plans / folder.name / name).rename(tmp_path / "elsewhere")
    (plans / folder.name / name).symlink_to(tmp_path / "elsewhere")

    engine = with_plans(manifest.load(folder), plans)

    assert engine.build is None
    assert "links that lead out" in caplog.text


@pytest.mark.usefixtures("board")
def test_plans_of_which_cannot_be_read_what_they_are_are_built_anew(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plans = tmp_path / "plans"
    compiled(folder, Order(plans=plans))
    (plans / folder.name / RECORD).write_text("build: {}")

    without = with_plans(manifest.load(folder), plans)
    compile_missing(folder.parent, plans, lambda _: None)

    assert without.build is None
    assert f"delete {plans / folder.name}" in caplog.text
    assert with_plans(manifest.load(folder), plans).build is not None


@pytest.mark.usefixtures("board")
def test_what_has_plans_apart_is_not_built_again(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    compile_missing(folder.parent, tmp_path / "plans", said.append)
    first = len(said)

    compile_missing(folder.parent, tmp_path / "plans", said.append)

    assert first == len(said) > 0


@pytest.mark.usefixtures("board")
def test_an_engine_in_delens_own_layout_is_compiled_where_plans_lie_apart(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)

    compiled(folder, Order(plans=tmp_path / "plans"))

    assert with_plans(manifest.load(folder), tmp_path / "plans").build is not None


def test_an_order_that_says_nothing_repeats_the_last_build(folder: Path) -> None:
    engine = replace(manifest.load(folder), build=replace(BUILD, tensorrt="8.6.1"))

    build = settled(engine, Order(), tensorrt="10.3.0", device=DEVICE)

    assert build == BUILD


def test_the_first_build_is_for_one_item_and_the_largest_batch_that_was_profiled() -> None:
    engine = manifest.load(Path(__file__).parents[2] / "engines" / "digits")

    build = settled(engine, Order(), tensorrt="10.3.0", device=DEVICE)

    assert (build.batches, build.precision) == ((1, 8), Precision.FP16)


def test_at_the_start_what_is_missing_is_built_once(folder: Path, board: Board) -> None:
    said: list[str] = []

    compile_missing(folder.parent, None, said.append)
    sentences, contexts = list(said), board.contexts
    compile_missing(folder.parent, None, said.append)

    assert sentences[0].startswith("building TensorRT plans of tiny, which takes minutes: stage 0")
    assert [sentence.split(" in ")[0] for sentence in sentences[1:]] == [
        f"stage {number} of 4 built" for number in (1, 2, 3, 4)
    ]
    assert (said, board.contexts) == (sentences, contexts)


@pytest.mark.usefixtures("board")
def test_an_engine_that_cannot_be_built_does_not_keep_the_others_from_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tiny_engine(folder.parent / "broken")
    (broken / "stage1.onnx").write_bytes(b"nonsense")

    compile_missing(folder.parent, None, lambda _: None)

    assert "engine broken gets no TensorRT plans" in caplog.text
    assert manifest.load(folder).build is not None


def test_without_tensorrt_the_start_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    compile_missing(folder.parent, None, lambda _: None)

    assert "no TensorRT plans are built: tensorrt does not load" in caplog.text


@pytest.mark.usefixtures("board")
def test_the_command_prints_the_error_of_each_exit(folder: Path) -> None:
    outcome = delen("compile", str(folder), "--precision", "fp16", "--batch", "1,4", "--json")

    findings = json.loads(outcome.stdout)
    assert outcome.exit_code == 0, outcome.output
    assert findings["build"] == {
        "tensorrt": "10.3.0",
        "device": DEVICE,
        "precision": "fp16",
        "batches": [1, 4],
    }
    assert len(findings["exits"]) == 4
    assert "stage 4 of 4 built" in outcome.stderr


@pytest.mark.usefixtures("board")
def test_the_command_prints_a_table(folder: Path) -> None:
    outcome = delen("compile", str(folder))

    assert outcome.exit_code == 0, outcome.output
    assert f"fp16 plans of TensorRT 10.3.0 for {DEVICE}" in outcome.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    "option",
    [
        ("--batch", "0"),
        ("--batch", "x"),
        ("--workspace", "much"),
        ("--workspace", "-1"),
        ("--workspace", "256"),
    ],
)
def test_wrong_usage_exits_2(folder: Path, option: tuple[str, str]) -> None:
    outcome = delen("compile", str(folder), *option)

    assert outcome.exit_code == 2


def test_a_workspace_is_given_in_any_unit(board: Board, folder: Path) -> None:
    outcome = delen("compile", str(folder), "--workspace", "1GiB")

    assert outcome.exit_code == 0, outcome.output
    assert {configuration.workspace for configuration in board.configurations} == {2**30}


def test_the_build_is_kept_by_a_manifest_that_is_written_again(folder: Path) -> None:
    document = yaml.safe_load((folder / manifest.MANIFEST).read_text())
    document["build"] = {
        "tensorrt": "10.3.0",
        "device": DEVICE,
        "precision": "fp16",
        "batches": [1, 4],
    }
    (folder / manifest.MANIFEST).write_text(yaml.safe_dump(document))
    engine = manifest.load(folder)

    manifest.save(engine, folder)

    assert manifest.load(folder).build == BUILD


def test_an_error_is_a_fraction_of_the_largest_logit() -> None:
    reference = np.array([[0.0, 10.0], [1.0, 0.0]], np.float32)
    found = np.array([[0.0, 9.0], [0.4, 0.5]], np.float32)

    error = exit_error(reference, found)

    assert error.error == pytest.approx(0.1)
    assert error.agreement == 0.5


def test_an_answer_that_is_no_number_is_infinitely_far_off() -> None:
    reference = np.array([[0.0, 1.0]], np.float32)

    error = exit_error(reference, np.array([[0.0, np.nan]], np.float32))

    assert error.error == float("inf")


def test_frames_are_spread_over_the_whole_folder() -> None:
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(2), 3) == [0, 1]
