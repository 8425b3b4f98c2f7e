"""An engine folder, read and written: `engine.yaml`, or what an older layout says instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from appliance import seed_layout
from appliance.document import listed, parse_document
from appliance.enclosure import lies_within
from appliance.engine import (
    Build,
    CalibrationError,
    Engine,
    InputSpec,
    Kind,
    Latency,
    Precision,
    Resize,
    Stage,
    ThresholdRow,
)
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


class _CalibrationError(_Section):
    before: _Fraction
    after: _Fraction


class _Threshold(_Section):
    threshold: _Fraction
    exit_shares: tuple[_Fraction, ...]
    accuracy: _Fraction
    latency: _Amount


class _Stage(_Section):
    onnx: str | None = None
    tensorrt: str | None = None
    accuracy: _Fraction | None = None
    flops: _Amount | None = None
    parameters: Annotated[int, Field(ge=0)] | None = None
    energy: _Amount | None = None
    latency: dict[Annotated[int, Field(ge=1)], _Latency] = Field(default_factory=dict)
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    calibration_error: _CalibrationError | None = None

    @field_validator("onnx", "tensorrt")
    @classmethod
    def _lies_in_the_folder(cls, name: str | None, info: ValidationInfo[Path]) -> str | None:
        """What a manifest names outside its own folder, even by a link, is not opened.

        A plan may be missing where the stage runs as ONNX too: plans belong to one board, and do
        not come along when a folder is copied to another.
        """
        folder = info.context
        if name is None:
            return None
        if not lies_within(folder / name, folder):
            raise ValueError(f"the file {name} is not inside the engine's folder")
        dispensable = info.field_name == "tensorrt" and info.data.get("onnx") is not None
        if not dispensable and not (folder / name).is_file():
            raise ValueError(f"there is no file {name}")
        return name

    @model_validator(mode="after")
    def _has_a_file(self) -> Self:
        if self.onnx is None and self.tensorrt is None:
            raise ValueError("the stage has no file: name one as onnx or tensorrt")
        return self


class BuildSection(_Section):
    """What TensorRT plans were built by and for, as it is written."""

    tensorrt: str = Field(min_length=1)
    device: str = Field(min_length=1)
    precision: Precision
    batches: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)


class Manifest(_Section):
    """What an engine is: its input, its labels, its stages in order and what is known of each."""

    name: str = Field(min_length=1, max_length=128)
    kind: Kind
    input: _Input
    labels: tuple[str, ...] = ()
    energy_source: Literal["modelled", "measured"] = "modelled"
    stages: tuple[_Stage, ...] = Field(min_length=1)
    thresholds: tuple[_Threshold, ...] = ()
    build: BuildSection | None = None

    @field_validator("thresholds")
    @classmethod
    def _one_share_per_exit(
        cls, rows: tuple[_Threshold, ...], info: ValidationInfo[Path]
    ) -> tuple[_Threshold, ...]:
        exits = len(info.data.get("stages", ()))
        for row in rows:
            if exits and len(row.exit_shares) != exits:
                raise ValueError(
                    f"{row.threshold:g} has {len(row.exit_shares)} exit_shares for {exits} stages"
                )
        return rows


def is_manifest(folder: Path) -> bool:
    """Whether a folder holds a manifest of ours."""
    return (folder / MANIFEST).is_file()


def find(engines: Path) -> dict[str, Path]:
    """The engine folders in a folder, by the folder's name; those that hold no engine are left out.

    So are links that lead out of the folder: what runs is what the operator has put there. The
    manifests are not read: a broken one is an error where its engine is asked for.
    """
    if not engines.is_dir():
        return {}
    folders = sorted(
        path for path in engines.iterdir() if lies_within(path, engines) and path.is_dir()
    )
    return {
        path.name: path for path in folders if is_manifest(path) or seed_layout.profile_of(path)
    }


def load(folder: Path) -> Engine:
    """The engine in a folder. Raises EngineError that names the file and what is wrong in it."""
    if is_manifest(folder):
        return _load_own(folder)
    profile = seed_layout.profile_of(folder)
    if profile is None:
        raise EngineError(
            f"{folder} is no engine folder: it has neither {MANIFEST} nor a NAME_profile.json"
        )
    return seed_layout.load(folder, profile)


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
    if engine.thresholds:
        manifest["thresholds"] = [_threshold_document(row) for row in engine.thresholds]
    if engine.build:
        manifest["build"] = build_document(engine.build)
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
    figures = {
        "accuracy": stage.accuracy,
        "flops": stage.flops,
        "parameters": stage.parameters,
        "energy": stage.energy_j,
    }
    document |= {name: value for name, value in figures.items() if value is not None}
    if stage.latency:
        document["latency"] = {
            batch: {"p50": latency.p50_s, "p95": latency.p95_s}
            for batch, latency in sorted(stage.latency.items())
        }
    document["temperature"] = stage.temperature
    if stage.calibration_error:
        error = stage.calibration_error
        document["calibration_error"] = {"before": error.before, "after": error.after}
    return document


def _threshold_document(row: ThresholdRow) -> dict[str, Any]:
    return {
        "threshold": row.threshold,
        "exit_shares": list(row.exit_shares),
        "accuracy": row.accuracy,
        "latency": row.latency_s,
    }


def build_document(build: Build) -> dict[str, Any]:
    """A build as it is written."""
    return {
        "tensorrt": build.tensorrt,
        "device": build.device,
        "precision": build.precision.value,
        "batches": list(build.batches),
    }


def _load_own(folder: Path) -> Engine:
    path = folder / MANIFEST
    if not lies_within(path, folder):
        raise EngineError(f"{path} is a link that leads out of its folder: put the file there")
    try:
        document = parse_document(path.read_bytes()).value
        manifest = Manifest.model_validate(document, context=folder)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error}") from error
    except InvalidDocument as error:
        raise EngineError(f"{path}: {error}") from error
    except ValidationError as error:
        raise EngineError(f"{path}: {listed(error)}") from error
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
        thresholds=tuple(
            ThresholdRow(
                threshold=row.threshold,
                exit_shares=row.exit_shares,
                accuracy=row.accuracy,
                latency_s=row.latency,
            )
            for row in manifest.thresholds
        ),
        build=None if manifest.build is None else build_of(manifest.build),
    )


def build_of(build: BuildSection) -> Build:
    """What a document says of a build."""
    return Build(
        tensorrt=build.tensorrt,
        device=build.device,
        precision=build.precision,
        batches=build.batches,
    )


def _stage(stage: _Stage, folder: Path) -> Stage:
    return Stage(
        onnx=None if stage.onnx is None else folder / stage.onnx,
        tensorrt=None if stage.tensorrt is None else folder / stage.tensorrt,
        accuracy=stage.accuracy,
        flops=stage.flops,
        parameters=stage.parameters,
        energy_j=stage.energy,
        latency={
            batch: Latency(p50_s=latency.p50, p95_s=latency.p95)
            for batch, latency in stage.latency.items()
        },
        temperature=stage.temperature,
        calibration_error=None
        if stage.calibration_error is None
        else CalibrationError(
            before=stage.calibration_error.before, after=stage.calibration_error.after
        ),
    )
