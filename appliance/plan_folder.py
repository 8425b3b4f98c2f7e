"""TensorRT plans that lie apart from their engine, whose own folder may be read-only."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from appliance import files
from appliance.document import listed, parse_document
from appliance.enclosure import lies_within
from appliance.engine import Engine
from appliance.errors import EngineError, InvalidDocument
from appliance.manifest import BuildSection, build_document, build_of

_log = logging.getLogger(__name__)

RECORD = "plans.yaml"


class _Record(BaseModel):
    """What the plans in a folder were built for, and of which ONNX files: their SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: BuildSection
    onnx: tuple[str, ...]


def place_of(engine: Engine, plans: Path | None) -> Path:
    """Where an engine's plans are built: below `plans`, or in its own folder where that is None."""
    return engine.folder if plans is None else plans / engine.folder.name


def with_plans(engine: Engine, plans: Path | None) -> Engine:
    """The engine with the plans that lie below `plans` for it, or as it is where none do.

    Plans of other ONNX files than the engine has by now are not taken, nor those of which cannot
    be read what they are: the log says so, and the engine runs without. Raises EngineError where
    the engine's own files cannot be read.
    """
    place = place_of(engine, plans)
    if plans is None or not (place / RECORD).is_file():
        return engine
    paths = [plan_path(place, number) for number in range(len(engine.stages))]
    if not all(lies_within(path, plans) for path in (place / RECORD, *paths)):
        _log.warning("the TensorRT plans in %s are links that lead out of it: not used", place)
        return engine
    try:
        record = _read(place / RECORD)
    except EngineError as error:
        _log.warning("the TensorRT plans of %s are not used: %s", engine.name, error)
        return engine
    if record.onnx != _checksums(engine):
        _log.warning("the TensorRT plans in %s are of other ONNX files: they are not used", place)
        return engine
    stages = tuple(
        replace(stage, tensorrt=path) for stage, path in zip(engine.stages, paths, strict=True)
    )
    return replace(engine, stages=stages, build=build_of(record.build))


def plan_path(place: Path, stage: int) -> Path:
    """Where a stage's plan lies in a folder of plans."""
    return place / f"stage{stage}.plan"


def save(engine: Engine, place: Path) -> None:
    """Writes what the plans that lie in `place` were built for, whole or not at all."""
    if engine.build is None:
        raise ValueError(f"the engine {engine.name} does not say what its plans were built for")
    record = {"build": build_document(engine.build), "onnx": list(_checksums(engine))}
    partial = place / f"{RECORD}.partial"
    partial.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    files.put(partial, place / RECORD)


def _read(path: Path) -> _Record:
    advice = f"delete {path.parent}, and have the plans built anew"
    try:
        return _Record.model_validate(parse_document(path.read_bytes()).value)
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}): {advice}") from error
    except InvalidDocument as error:
        raise EngineError(f"{path}: {error}: {advice}") from error
    except ValidationError as error:
        raise EngineError(f"{path}: {listed(error)}: {advice}") from error


def _checksums(engine: Engine) -> tuple[str, ...]:
    """The SHA-256 of each stage's ONNX file, empty for none. Raises EngineError."""
    try:
        return tuple("" if s.onnx is None else _sha256(s.onnx) for s in engine.stages)
    except OSError as error:
        raise EngineError(f"the files of {engine.name} cannot be read: {error}") from error


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()
