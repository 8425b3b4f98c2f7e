"""Plans that are opened, or cannot be, against doubles of `tensorrt` and `pycuda`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from appliance import manifest
from appliance.backends.protocol import INPUT, OUTPUT
from appliance.engine import Engine
from appliance.errors import EngineError
from tests.doubles.board import Board
from tests.doubles.installed import doubles
from tests.doubles.plans import frame, opened, planned
from tests.engines import tiny_engine


@pytest.fixture(params=["unified memory", "memory of its own"])
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    with doubles(Board(unified=request.param == "unified memory")) as board:
        yield board


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return planned(manifest.load(tiny_engine(tmp_path / "tiny")))


def test_a_plan_that_is_none_is_an_engine_error_and_leaves_nothing(
    board: Board, engine: Engine
) -> None:
    (engine.folder / "stage2.plan").write_bytes(b"nonsense")

    with pytest.raises(EngineError, match=r"stage2\.plan cannot .*magic tag.*`delen compile`"):
        opened(engine).__enter__()

    assert board.is_clean


@pytest.mark.usefixtures("board")
def test_a_plan_of_another_engine_is_an_engine_error(engine: Engine, tmp_path: Path) -> None:
    other = planned(manifest.load(tiny_engine(tmp_path / "other", shape=(1, 4, 4))))
    assert engine.stages[1].tensorrt is not None
    assert other.stages[1].tensorrt is not None
    engine.stages[1].tensorrt.write_bytes(other.stages[1].tensorrt.read_bytes())

    with pytest.raises(EngineError, match=r"stage1\.plan takes .*4, 4.* is given .*8, 8"):
        opened(engine).__enter__()


def test_a_device_without_room_is_an_engine_error_and_leaves_nothing(
    board: Board, engine: Engine
) -> None:
    board.memory_limit = 1024

    with pytest.raises(EngineError, match=r"the device has no .* left"):
        opened(engine).__enter__()

    assert board.is_clean


def test_a_machine_without_a_device_is_an_engine_error(board: Board, engine: Engine) -> None:
    board.devices = 0

    with pytest.raises(EngineError, match="the CUDA device cannot be opened"):
        opened(engine).__enter__()


def test_contexts_for_larger_batches_take_no_memory_of_their_own(
    board: Board, tmp_path: Path
) -> None:
    taken = []

    for batches in ((1,), (1, 4)):
        folder = tiny_engine(tmp_path / f"to{batches[-1]}")
        before = board.allocations
        with opened(planned(manifest.load(folder), batches)):
            taken.append(board.allocations - before)

    assert taken[0] == taken[1]
    assert board.contexts == 4 * (1 + 4)


@pytest.mark.usefixtures("board")
def test_the_plan_with_the_smallest_batch_limits_all(engine: Engine) -> None:
    smaller = planned(engine, batches=(2,)).stages[2]
    assert smaller.tensorrt is not None
    plan = smaller.tensorrt.read_bytes()
    planned(engine)
    smaller.tensorrt.write_bytes(plan)

    with opened(engine) as backend:
        batch = [backend.feed(frame(number / 10)) for number in range(4)]
        logits, _ = backend.run_through(0, 3, batch)

    assert logits[:, 2] == pytest.approx([8 * number / 10 for number in range(4)])


def test_a_plan_for_one_larger_batch_alone_is_an_engine_error(board: Board, engine: Engine) -> None:
    resize(engine, 0, {0: 2})

    with pytest.raises(EngineError, match=r"stage0\.plan takes batches of 2 alone"):
        opened(engine).__enter__()

    assert board.is_clean


def test_a_plan_for_inputs_of_any_height_is_an_engine_error(board: Board, engine: Engine) -> None:
    resize(engine, 1, {2: "height"})

    with pytest.raises(EngineError, match=r"stage1\.plan: the shape of input is not fixed"):
        opened(engine).__enter__()

    assert board.is_clean


def test_a_plan_whose_input_is_its_output_is_an_engine_error(board: Board, engine: Engine) -> None:
    path = engine.stages[3].onnx
    assert path is not None
    axes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in (OUTPUT, INPUT)]
    turned = helper.make_graph(
        [helper.make_node("Identity", [OUTPUT], [INPUT])], "turned", axes[:1], axes[1:]
    )
    onnx.save(
        helper.make_model(turned, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    planned(engine)

    with pytest.raises(EngineError, match="a stage here has input, output"):
        opened(engine).__enter__()

    assert board.is_clean


def resize(engine: Engine, stage: int, sizes: dict[int, int | str]) -> None:
    """Builds the plans anew after the sizes of a stage's axes were changed."""
    path = engine.stages[stage].onnx
    assert path is not None
    model = onnx.load(path)
    for tensor in (*model.graph.input, *model.graph.output):
        axes = tensor.type.tensor_type.shape.dim
        for axis, size in sizes.items():
            if axis < len(axes):
                axes[axis].CopyFrom(
                    helper.make_tensor_type_proto(1, [size]).tensor_type.shape.dim[0]
                )
    onnx.save(model, path)
    planned(engine)
