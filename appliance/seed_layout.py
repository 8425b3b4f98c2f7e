"""An engine folder in the layout that Dělen's own repository has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import onnxruntime as ort
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from appliance.document import listed
from appliance.enclosure import lies_within
from appliance.engine import Engine, InputSpec, Kind, Stage
from appliance.errors import EngineError
from appliance.external_weights import refuse_strays

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Exit(BaseModel):
    """One exit in Dělen's own profile: GFLOP and mJ, summed up from the input."""

    accuracy: _Fraction | None = None
    flops: _Amount | None = None
    energy: _Amount | None = None


_PROFILE = TypeAdapter(list[_Exit])


def profile_of(folder: Path) -> Path | None:
    """The file by which such a folder is known."""
    return next((path for path in sorted(folder.glob("*_profile.json")) if path.is_file()), None)


def load(folder: Path, profile: Path | None) -> Engine:
    """The engine in such a folder, without labels; without a profile its figures are not known.

    Raises EngineError that names the file and what is wrong in it.
    """
    onnx = _stages(folder)
    plans = sorted((folder / "trt").glob("*.engine"), key=_natural)
    outside = [path for path in (*onnx, *plans, profile) if path and not lies_within(path, folder)]
    if outside:
        raise EngineError(
            f"{outside[0]} is a link that leads out of its folder: put the file there"
        )
    if not onnx:
        raise EngineError(
            f"{folder} has no ONNX stages in trt/, onnx/, subnetworks/ or itself: its TensorRT"
            " engines run only with TensorRT, on the board that they were built for."
            " `delen split` writes ONNX stages"
        )
    exits = [_Exit() for _ in onnx] if profile is None else _exits(profile)
    if len(onnx) != len(exits):
        raise EngineError(f"{folder}: {len(onnx)} ONNX stages, but {len(exits)} exits in {profile}")
    refuse_strays(onnx[0], folder)
    spec = _input(onnx[0])
    return Engine(
        name=folder.resolve().name if profile is None else _name(profile),
        kind=_kind_of(spec.shape),
        input=spec,
        labels=(),
        stages=tuple(
            Stage(
                onnx=path,
                tensorrt=plans[number] if len(plans) == len(onnx) else None,
                accuracy=exits[number].accuracy,
                flops=_own([exit_.flops for exit_ in exits], number, 1e9),
                energy_j=_own([exit_.energy for exit_ in exits], number, 1e-3),
            )
            for number, path in enumerate(onnx)
        ),
        folder=folder,
    )


def _name(profile: Path) -> str:
    return profile.name.removesuffix("_profile.json")


def _exits(profile: Path) -> list[_Exit]:
    try:
        return _PROFILE.validate_python(json.loads(profile.read_bytes()))
    except ValidationError as error:
        raise EngineError(f"{profile} is no profile of Dělen's: {listed(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{profile} is no profile of Dělen's: {error}") from error


def _stages(folder: Path) -> list[Path]:
    for place in (folder / "trt", folder / "onnx", folder / "subnetworks", folder):
        paths = sorted((p for p in place.glob("*.onnx") if p.is_file()), key=_natural)
        if paths:
            return paths
    return []


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts net2 before net10."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _own(cumulated: list[float | None], number: int, scale: float) -> float | None:
    """What a stage adds to a figure that the profile sums up."""
    value, before = cumulated[number], cumulated[number - 1] if number else 0.0
    return None if value is None or before is None else max(0.0, value - before) * scale


def _input(path: Path) -> InputSpec:
    """The engine's input as its first stage declares it; this layout describes it nowhere else."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(f"{path} cannot be opened by ONNX Runtime: {error}") from error
    tensors = session.get_inputs()
    if len(tensors) != 1 or tensors[0].type not in _DTYPES:
        declared = ", ".join(f"{tensor.name} {tensor.type}" for tensor in tensors)
        raise EngineError(f"{path} takes {declared}; a first stage takes one tensor of numbers")
    shape = tensors[0].shape[1:]
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise EngineError(
            f"{path}: the input's shape {tensors[0].shape} is not fixed beyond the batch:"
            " export it with a fixed size"
        )
    return InputSpec(shape=tuple(shape), dtype=_DTYPES[tensors[0].type])


_ERRORS_ONLY = 3
"""ONNX Runtime's log severity: no warnings on standard error."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
"""ONNX Runtime's names of the dtypes that an input may have."""


def _kind_of(shape: tuple[int, ...]) -> Kind:
    looks_like_an_image = len(shape) == 3 and shape[0] in (1, 3)
    return Kind.IMAGE if looks_like_an_image else Kind.TENSOR
