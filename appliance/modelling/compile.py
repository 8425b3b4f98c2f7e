"""Builds an engine's TensorRT plans, and takes them into use once their answers are close enough.

No file of the engine but the timing cache changes before all plans are built and every exit was
compared with ONNX Runtime's.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from appliance import files, manifest, plan_folder
from appliance.backends import builds, choice
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Build, Engine, Precision
from appliance.errors import DelenError, EngineError, ModellingError
from appliance.modelling.calibration_frames import calibration_frames, noise
from appliance.modelling.plan_check import TOLERANCES, ExitError, compare, require_close

_log = logging.getLogger(__name__)

WORKSPACE_BYTES = 256 * 2**20
TIMING_CACHE = "timing.cache"
WORKSHOP = ".plans"
CHECKED_NOISE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to build. Where precision or batches are None, as before, or what the engine suggests.

    `tolerance` is a fraction of an exit's largest logit; None takes the precision's own. `plans`
    is where the plans of all engines lie, None for beside the ONNX stages of each.
    """

    precision: Precision | None = None
    batches: tuple[int, ...] | None = None
    workspace_bytes: int = WORKSPACE_BYTES
    tolerance: float | None = None
    frames: Path | None = None
    plans: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    """An engine whose plans are in use, and how far they are off at each exit."""

    engine: Engine
    build: Build
    errors: tuple[ExitError, ...]
    tolerance: float
    frames: int


def compile_engine(engine: Engine, order: Order, report: Callable[[str], None]) -> Compiled:
    """Builds all plans of an engine for this device; `report` is told sentences as it goes on.

    Raises ModellingError or EngineError, and leaves the engine as it was, where a plan cannot be
    built or an exit is off by more than the tolerance.
    """
    version, device = choice.here()
    engine = plan_folder.with_plans(engine, order.plans)
    build = settled(engine, order, tensorrt=version, device=device)
    place = plan_folder.place_of(engine, order.plans)
    if place == engine.folder:
        _require_own_folder(engine)
    given = calibration_frames(engine, order.frames)
    if build.precision is Precision.INT8 and not given:
        raise ModellingError(
            f"INT8 needs frames to calibrate with: put some into {engine.folder / 'frames'}, or"
            " name a folder with --frames"
        )
    tolerance = TOLERANCES[build.precision] if order.tolerance is None else order.tolerance
    frames = given or noise(engine, CHECKED_NOISE)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _workshop(place) as workshop:
            built = _build(engine, build, order, given, workshop, report)
            errors = compare(built, frames, max(build.batches))
            require_close(built, errors, tolerance)
            used = _take_into_use(built, place)
    except OSError as error:
        raise ModellingError(
            f"{place} cannot be written ({error.strerror}): name a folder for plans that can be,"
            " by DELEN_PLANS or --plans"
        ) from error
    return Compiled(
        engine=used, build=build, errors=errors, tolerance=tolerance, frames=len(frames)
    )


def compile_missing(engines: Path, plans: Path | None, report: Callable[[str], None]) -> None:
    """Builds the plans of all engines in a folder that have none for this machine.

    They are kept in `plans`, or beside the ONNX stages where that is None.

    What goes wrong is logged: the engine runs on ONNX Runtime then.
    """
    try:
        version, device = choice.here()
    except EngineError as error:
        _log.warning("no TensorRT plans are built: %s", error)
        return
    for name, folder in manifest.find(engines).items():
        try:
            engine = plan_folder.with_plans(manifest.load(folder), plans)
            reason = builds.refusal(engine, tensorrt=version, device=device)
            if reason is not None:
                report(f"building TensorRT plans of {name}, which takes minutes: {reason}")
                compile_engine(engine, Order(plans=plans), report)
        except DelenError as error:
            _log.error("engine %s gets no TensorRT plans: %s", name, error)


def settled(engine: Engine, order: Order, *, tensorrt: str, device: str) -> Build:
    """The build that an order comes to. Raises ModellingError where the version cannot do it."""
    precision = order.precision or builds.default_precision(engine, tensorrt)
    if builds.is_strongly_typed(tensorrt) and precision is not Precision.FP32:
        raise ModellingError(
            f"TensorRT {tensorrt} takes all types from the ONNX file and has no switch for"
            f" {precision.value}: export the stages in the types that they are to have, and compile"
            " them with --precision fp32"
        )
    earlier = None if engine.build is None else engine.build.batches
    batches = order.batches or earlier or builds.default_batches(engine)
    return Build(tensorrt=tensorrt, device=device, precision=precision, batches=batches)


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A folder in another one for what is not in use yet; what a killed build left there goes."""
    workshop = folder / WORKSHOP
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _require_own_folder(engine: Engine) -> None:
    if not manifest.is_manifest(engine.folder):
        raise ModellingError(
            f"{engine.folder} has no {manifest.MANIFEST} to write the build into: `delen"
            " import-delen` makes an engine folder of it"
        )


def _build(  # noqa: PLR0913 - a step of one function
    engine: Engine,
    build: Build,
    order: Order,
    frames: Sequence[NDArray[Any]],
    workshop: Path,
    report: Callable[[str], None],
) -> Engine:
    """The engine with its new plans, which lie in the workshop."""
    from appliance.backends.cuda import CudaDevice  # noqa: PLC0415 - where there is TensorRT
    from appliance.modelling.tensorrt_builder import PlanOrder, build_plan  # noqa: PLC0415

    cache_path = workshop.parent / TIMING_CACHE
    cache = cache_path.read_bytes() if cache_path.is_file() else b""
    stages = []
    with CudaDevice() as device, OnnxBackend(engine) as reference:
        calibrating = frames if build.precision is Precision.INT8 else ()
        carried: Sequence[Any] = [reference.feed(frame) for frame in calibrating]
        for number, stage in enumerate(engine.stages):
            started_s = time.monotonic()
            order_ = PlanOrder(
                onnx=_onnx_of(engine, number),
                precision=build.precision,
                batches=build.batches,
                workspace_bytes=order.workspace_bytes,
                calibration=[value.numpy() for value in carried],
            )
            built = build_plan(order_, device, cache)
            cache = built.timing_cache
            cache_path.write_bytes(cache)
            plan = plan_folder.plan_path(workshop, number)
            plan.write_bytes(built.plan)
            stages.append(replace(stage, tensorrt=plan))
            report(
                f"stage {number + 1} of {len(engine.stages)} built in"
                f" {time.monotonic() - started_s:.1f} s, {len(built.plan) / 1e6:.1f} MB"
            )
            if number < engine.last_exit:
                runs = [reference.run(number, [features]) for features in carried]
                carried = [following for _, (following,) in runs]
    return replace(engine, stages=tuple(stages), build=build)


def _onnx_of(engine: Engine, number: int) -> Path:
    path = engine.stages[number].onnx
    if path is None:
        raise ModellingError(f"stage {number} of {engine.name} has no ONNX file to build from")
    return path


def _take_into_use(built: Engine, place: Path) -> Engine:
    stages = []
    for number, stage in enumerate(built.stages):
        path = plan_folder.plan_path(place, number)
        if stage.tensorrt is not None:
            files.put(stage.tensorrt, path)
        stages.append(replace(stage, tensorrt=path))
    used = replace(built, stages=tuple(stages))
    if place == built.folder:
        manifest.save(used, place)
    else:
        plan_folder.save(used, place)
    return used
