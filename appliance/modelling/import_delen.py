"""A folder in the layout of Dělen's own repository becomes an engine folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from appliance import manifest, seed_layout
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine, InputSpec, Kind
from appliance.errors import EngineError, ModellingError
from appliance.modelling.folders import replaced_folder

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""How Dělen's own training normalises images."""


def import_delen(
    source: Path,
    out: Path | None,
    *,
    labels: tuple[str, ...] = (),
    kind: Kind | None = None,
    normalised: bool = True,
) -> Engine:
    """Copies what a folder of Dělen's holds into an engine folder, and runs it once to see it fit.

    By default it goes to `engines/NAME`. The source is left as it is; conditions come along,
    TensorRT plans do not: they run on the board alone that built them. `normalised` colour images
    get ImageNet's normalisation. Raises ModellingError, and leaves what was in `out` before, where
    the stages do not fit one another, or the labels the answers.
    """
    if not source.is_dir():
        raise ModellingError(f"there is no folder {source}: name one with Dělen's stages")
    try:
        found = seed_layout.load(source, seed_layout.profile_of(source))
        place = out or Path("engines") / found.name
        with replaced_folder(place, mark=manifest.MANIFEST) as folder:
            engine = _copied(found, folder)
            engine = replace(
                engine,
                name=place.resolve().name,
                kind=kind or engine.kind,
                input=_normalised(engine.input) if normalised else engine.input,
                labels=labels,
            )
            _require_fit(engine)
            for path in sorted(source.glob("conditions*.json")):
                shutil.copy(path, folder)
            manifest.save(engine, folder)
    except EngineError as error:
        raise ModellingError(str(error)) from error
    return manifest.load(place)


def _copied(engine: Engine, folder: Path) -> Engine:
    """The engine with its ONNX stages in a new folder, under our names."""
    stages = []
    for number, stage in enumerate(engine.stages):
        if stage.onnx is None:
            raise ModellingError(f"stage {number} of {engine.folder} has no ONNX file")
        path = folder / f"stage{number}.onnx"
        shutil.copyfile(stage.onnx, path)
        _copy_weights_beside(stage.onnx, folder)
        stages.append(replace(stage, onnx=path, tensorrt=None))
    return replace(engine, stages=tuple(stages), folder=folder)


def _copy_weights_beside(model: Path, folder: Path) -> None:
    """Large models keep their weights in a file beside them, by whose name they find it."""
    for path in model.parent.glob(f"{model.name}*data"):
        shutil.copyfile(path, folder / path.name)


def _normalised(spec: InputSpec) -> InputSpec:
    if len(spec.shape) == 3 and spec.shape[0] == 3 and spec.dtype.startswith("float"):
        return replace(spec, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return spec


def _require_fit(engine: Engine) -> None:
    """Runs the chain once. Raises EngineError, or ModellingError for labels of another number."""
    with OnnxBackend(engine, threads=1) as backend:
        features = [backend.feed(np.zeros((1, *engine.input.shape), engine.input.dtype))]
        for stage in range(len(engine.stages)):
            logits, following = backend.run(stage, features)
            features = list(following)
    if engine.labels and len(engine.labels) != logits.shape[-1]:
        raise ModellingError(
            f"{len(engine.labels)} labels for the {logits.shape[-1]} classes that {engine.name}"
            " answers: give one for each, in the order of the classes"
        )
