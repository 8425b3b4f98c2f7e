"""Whether an engine's TensorRT plans were built for this machine, and how to build them anew."""

from __future__ import annotations

import shlex

from appliance.engine import Engine, Precision


def refusal(engine: Engine, *, tensorrt: str, device: str) -> str | None:
    """Why the plans do not run here, with the command that builds them; None where they do."""
    build = engine.build
    missing = _missing(engine)
    if missing is not None:
        return f"{missing}: {rebuild(engine)}"
    if build is None:
        return (
            f"{engine.folder}: its manifest does not say what the TensorRT plans were built for:"
            f" {rebuild(engine)}"
        )
    if (build.tensorrt, build.device) != (tensorrt, device):
        return (
            f"the TensorRT plans in {engine.folder} were built by {build.tensorrt} for"
            f" {build.device}, here is {tensorrt} on {device}: {rebuild(engine)}"
        )
    return None


def rebuild(engine: Engine) -> str:
    """The command that builds an engine's plans, as they were built before where that is known."""
    command = ["delen", "compile", str(engine.folder)]
    if engine.build is not None:
        command += ["--precision", engine.build.precision.value]
        command += ["--batch", ",".join(map(str, engine.build.batches))]
    return f"build them with `{shlex.join(command)}`"


def default_batches(engine: Engine) -> tuple[int, ...]:
    """One item, and the largest batch that was profiled."""
    profiled = [max(stage.latency, default=1) for stage in engine.stages]
    return tuple(sorted({1, min(profiled)}))


def default_precision(engine: Engine, tensorrt: str) -> Precision:
    """The precision that the plans have had, or else half where TensorRT chooses types itself."""
    if engine.build is not None:
        return engine.build.precision
    return Precision.FP32 if is_strongly_typed(tensorrt) else Precision.FP16


def is_strongly_typed(tensorrt: str) -> bool:
    """Whether a version takes all types from the ONNX file: from 11 on nothing else is left."""
    return int(tensorrt.split(".", maxsplit=1)[0]) >= 11


def _missing(engine: Engine) -> str | None:
    for number, stage in enumerate(engine.stages):
        if stage.tensorrt is None:
            return f"stage {number} of {engine.name} has no TensorRT plan"
        if not stage.tensorrt.is_file():
            return f"the TensorRT plan {stage.tensorrt} is missing"
    return None
