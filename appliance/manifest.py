"""An engine folder, read and written: with our own manifest, or in Dělen's layout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import onnxruntime as ort
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from appliance.document import dotted, parse_document
from appliance.engine import Engine, InputSpec, Kind, Latency, Resize, Stage
from appliance.errors import EngineError, InvalidDocument

MANIFEST = "engine.yaml"

_Fraction = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Input(_Section):
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, max_length=4)
    dtype: Literal["float32", "float16", "float64", "uint8", "int8", "int32", "int64"] = "float32"
    layout: Literal["CHW", "HWC"] = "CHW"
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    resize: Resize = Resize.STRETCH
    sample_rate: Annotated[int, Field(ge=1, le=768_000)] = 16_000

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Self:
        channels = self.shape[0 if self.layout == "CHW" else -1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in {0, 1, channels}:
                raise ValueError(
                    f"{name} has {len(values)} values for {channels} channels:"
                    " give one, or one per channel"
                )
        return self


class _Latency(_Section):
    p50: _Amount
    p95: _Amount


class _Stage(_Section):
    onnx: str | None = None
    tensorrt: str | None = None
    accuracy: _Fraction | None = None
    flops: _Amount | None = None
    energy: _Amount | None = None
    latency: dict[Annotated[int, Field(ge=1)], _Latency] = Field(default_factory=dict)
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @field_validator("onnx", "tensorrt")
    @classmethod
    def _lies_in_the_folder(cls, name: str | None, info: ValidationInfo[Path]) -> str | None:
        """What a manifest names outside its own folder, even by a link, is not opened."""
        folder = info.context
        if name is None:
            return None
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the file {name} is not inside the engine's folder")
        if not (folder / name).is_file():
            raise ValueError(f"there is no file {name}")
        return name

    @model_validator(mode="after")
    def _has_a_file(self) -> Self:
        if self.onnx is None and self.tensorrt is None:
            raise ValueError("the stage has no file: name one as onnx or tensorrt")
        return self


class _Manifest(_Section):
    name: str = Field(min_length=1, max_length=128)
    kind: Kind
    input: _Input
    labels: tuple[str, ...] = ()
    energy_source: Literal["modelled", "measured"] = "modelled"
    stages: tuple[_Stage, ...] = Field(min_length=1)


class _SeedExit(BaseModel):
    """One exit in Dělen's own profile: GFLOP and mJ, summed up from the input."""

    accuracy: _Fraction | None = None
    flops: _Amount | None = None
    energy: _Amount | None = None


_SEED_PROFILE = TypeAdapter(list[_SeedExit])


def is_manifest(folder: Path) -> bool:
    """Whether a folder holds a manifest of ours."""
    return (folder / MANIFEST).is_file()


def find(engines: Path) -> dict[str, Path]:
    """The engine folders in a folder, by the folder's name; those that hold no engine are left out.

    The manifests are not read: a broken one is an error where its engine is asked for.
    """
    if not engines.is_dir():
        return {}
    folders = sorted(path for path in engines.iterdir() if path.is_dir())
    return {path.name: path for path in folders if is_manifest(path) or _seed_profile(path)}


def load(folder: Path) -> Engine:
    """The engine in a folder. Raises EngineError that names the file and what is wrong in it."""
    if is_manifest(folder):
        return _load_own(folder)
    profile = _seed_profile(folder)
    if profile is None:
        raise EngineError(
            f"{folder} is no engine folder: it has neither {MANIFEST} nor a NAME_profile.json"
        )
    return _load_seed(folder, profile)


def save(engine: Engine, folder: Path) -> None:
    """Writes an engine's manifest, whole or not at all; the stage files must lie in the folder."""
    manifest = {
        "name": engine.name,
        "kind": engine.kind.value,
        "input": _input_document(engine.input),
        "labels": list(engine.labels),
        "energy_source": engine.energy_source,
        "stages": [_stage_document(stage, folder) for stage in engine.stages],
    }
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, default_flow_style=None)
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / MANIFEST)


def _input_document(spec: InputSpec) -> dict[str, Any]:
    return {
        "shape": list(spec.shape),
        "dtype": spec.dtype,
        "layout": spec.layout,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "resize": spec.resize.value,
        "sample_rate": spec.sample_rate_hz,
    }


def _stage_document(stage: Stage, folder: Path) -> dict[str, Any]:
    files = {"onnx": stage.onnx, "tensorrt": stage.tensorrt}
    document: dict[str, Any] = {
        backend: path.resolve().relative_to(folder.resolve()).as_posix()
        for backend, path in files.items()
        if path is not None
    }
    figures = {"accuracy": stage.accuracy, "flops": stage.flops, "energy": stage.energy_j}
    document |= {name: value for name, value in figures.items() if value is not None}
    if stage.latency:
        document["latency"] = {
            batch: {"p50": latency.p50_s, "p95": latency.p95_s}
            for batch, latency in sorted(stage.latency.items())
        }
    document["temperature"] = stage.temperature
    return document


def _load_own(folder: Path) -> Engine:
    path = folder / MANIFEST
    try:
        document = parse_document(path.read_bytes()).value
        manifest = _Manifest.model_validate(document, context=folder)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error}") from error
    except InvalidDocument as error:
        raise EngineError(f"{path}: {error}") from error
    except ValidationError as error:
        raise EngineError(f"{path}: {_listed(error)}") from error
    spec = manifest.input
    return Engine(
        name=manifest.name,
        kind=manifest.kind,
        input=InputSpec(
            shape=spec.shape,
            dtype=spec.dtype,
            layout=spec.layout,
            mean=spec.mean,
            std=spec.std,
            resize=spec.resize,
            sample_rate_hz=spec.sample_rate,
        ),
        labels=manifest.labels,
        stages=tuple(_stage(stage, folder) for stage in manifest.stages),
        folder=folder,
        energy_source=manifest.energy_source,
    )


def _listed(error: ValidationError) -> str:
    """Everything that is wrong, each with the field that it is wrong in."""
    return "; ".join(
        f"{dotted(part['loc']) or 'the document'}: {part['msg'].removeprefix('Value error, ')}"
        for part in error.errors()
    )


def _stage(stage: _Stage, folder: Path) -> Stage:
    return Stage(
        onnx=None if stage.onnx is None else folder / stage.onnx,
        tensorrt=None if stage.tensorrt is None else folder / stage.tensorrt,
        accuracy=stage.accuracy,
        flops=stage.flops,
        energy_j=stage.energy,
        latency={
            batch: Latency(p50_s=latency.p50, p95_s=latency.p95)
            for batch, latency in stage.latency.items()
        },
        temperature=stage.temperature,
    )


# Dělen's own layout.


def _seed_profile(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*_profile.json"))), None)


def _load_seed(folder: Path, profile: Path) -> Engine:
    name = profile.name.removesuffix("_profile.json")
    try:
        exits = _SEED_PROFILE.validate_python(json.loads(profile.read_bytes()))
    except ValidationError as error:
        raise EngineError(f"{profile} is no profile of Dělen's: {_listed(error)}") from error
    except (OSError, ValueError) as error:
        raise EngineError(f"{profile} is no profile of Dělen's: {error}") from error
    onnx = _seed_stages(folder)
    plans = sorted((folder / "trt").glob("*.engine"), key=_natural)
    if not onnx:
        raise EngineError(
            f"{folder} has no ONNX stages in trt/, onnx/, subnetworks/ or itself: its TensorRT"
            " engines run only with TensorRT, on the board that they were built for."
            " `delen split` writes ONNX stages"
        )
    if len(onnx) != len(exits):
        raise EngineError(f"{folder}: {len(onnx)} ONNX stages, but {len(exits)} exits in {profile}")
    spec = _seed_input(onnx[0])
    return Engine(
        name=name,
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


def _seed_stages(folder: Path) -> list[Path]:
    for place in (folder / "trt", folder / "onnx", folder / "subnetworks", folder):
        paths = sorted(place.glob("*.onnx"), key=_natural)
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


def _seed_input(path: Path) -> InputSpec:
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
