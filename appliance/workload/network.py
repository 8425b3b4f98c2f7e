"""What a network answers to frames: by its own frames, or drawn from its profile."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine
from appliance.errors import WorkloadError
from appliance.modelling.datasets import HeldOutFrames, Part
from appliance.modelling.profiling.answers import answers
from appliance.simulation import Answers

MOST_FRAMES = 1000
"""How many frames are run through a network; of more, so many are taken evenly."""

DRAWN_FRAMES = 4000
DRAWN_CLASSES = 10
"""How many classes a network without labels is taken to have."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Network:
    """What an engine's exits answer to some frames, and what the frames show."""

    engine: Engine
    answers: Answers
    """Logits, shape (frames, exits, classes)."""
    classes: NDArray[np.int64]
    """What each frame shows, shape (frames,)."""
    recorded: bool
    """Whether these are frames that the network has seen; else they are drawn."""


def network_of(engine: Engine, seed: int) -> Network:
    """Runs an engine's own frames through it once; without such, draws answers from its profile.

    Its own are those in class folders, `frames/LABEL/FRAME`. Raises WorkloadError where there are
    none, nor a profile; ModellingError where a frame does not fit the engine.
    """
    folder = engine.folder / "frames"
    has_frames = folder.is_dir() and any(part.is_dir() for part in folder.iterdir())
    if has_frames and all(stage.onnx is not None for stage in engine.stages):
        return _recorded(engine)
    return drawn(engine, seed)


def _recorded(engine: Engine) -> Network:
    examples = HeldOutFrames(engine.folder / "frames").examples(Part.TEST)
    if len(examples) > MOST_FRAMES:
        chosen = np.linspace(0, len(examples) - 1, MOST_FRAMES).astype(int)
        examples = [examples[number] for number in chosen.tolist()]
    with OnnxBackend(engine) as backend:
        found = answers(engine, backend, examples)
    return Network(
        engine=engine,
        answers=np.stack(found.logits, axis=1).astype(np.float32),
        classes=found.classes,
        recorded=True,
    )


def drawn(engine: Engine, seed: int) -> Network:
    """Frames as the profile makes one expect them.

    Two uniform numbers make a frame: how unsure the network is of it, and how hard it is to get
    right. The calibrated confidence of an exit falls with the first, by the distribution that
    the threshold table tells; where it does not, by one whose mean is the exit's accuracy. An
    exit is right where that confidence, scaled so that its mean is the exit's accuracy, exceeds
    the second. So the accuracies are the profile's, confidence means what it says, and whoever
    is answered right early is so at the exits that are surer still. What is not the answer is
    spread over the other classes evenly; the logits are those times the exit's temperature.
    Raises WorkloadError where the profile tells no accuracy.
    """
    accuracies = [stage.accuracy for stage in engine.stages]
    if any(accuracy is None for accuracy in accuracies):
        raise WorkloadError(
            f"the engine {engine.name} has neither frames in class folders nor accuracies in its"
            f" profile: run `delen profile {engine.folder}`"
        )
    chance = np.random.default_rng(seed)
    count = max(2, len(engine.labels) or DRAWN_CLASSES)
    # Evenly spread rather than drawn, so that so many frames have the profile's accuracies.
    unsure = (chance.permutation(DRAWN_FRAMES) + 0.5) / DRAWN_FRAMES
    hard = (chance.permutation(DRAWN_FRAMES) + 0.5) / DRAWN_FRAMES
    classes = chance.integers(count, size=DRAWN_FRAMES)
    wrong = (classes + chance.integers(1, count, size=DRAWN_FRAMES)) % count
    logits = []
    for exit_, stage in enumerate(engine.stages):
        confidence = _confidence(engine, exit_, unsure, count)
        right = hard < _mended(confidence, stage.accuracy or 0.0)
        said = np.where(right, classes, wrong)
        logits.append(_logits(confidence, said, count) * stage.temperature)
    return Network(
        engine=engine,
        answers=np.stack(logits, axis=1).astype(np.float32),
        classes=classes,
        recorded=False,
    )


def _confidence(engine: Engine, exit_: int, unsure: Floats, classes: int) -> Floats:
    """The calibrated confidence of an exit for frames by how unsure the network is of them."""
    least = 1.0 / classes
    if engine.thresholds and exit_ < engine.last_exit:
        # Whoever has left by an exit was sure enough there or before: the share that is.
        rows = sorted(engine.thresholds, key=lambda row: -row.threshold)
        shares = [0.0, *(sum(row.exit_shares[: exit_ + 1]) for row in rows), 1.0]
        levels = [1.0, *(row.threshold for row in rows), least]
        if all(before <= after for before, after in pairwise(shares)):
            return _clipped(np.interp(unsure, shares, levels), least)
    # least + (1 - least) * (1 - u)**steepness has this mean for u even between 0 and 1.
    accuracy = max((engine.stages[exit_].accuracy or 0.0) - least, 1e-3)
    steepness = max((1.0 - least) / accuracy - 1.0, 0.0)
    return _clipped(least + (1.0 - least) * (1.0 - unsure) ** steepness, least)


def _clipped(confidence: Floats, least: float) -> Floats:
    return np.clip(confidence, least + 1e-6, 1.0 - 1e-6)


def _mended(confidence: Floats, accuracy: float) -> Floats:
    """Chances to be right, in proportion to the confidence, or to what it lacks, with this mean."""
    mean = float(confidence.mean())
    if accuracy <= mean:
        return confidence * (accuracy / mean)
    return 1.0 - (1.0 - confidence) * ((1.0 - accuracy) / (1.0 - mean))


def _logits(confidence: Floats, said: NDArray[np.int64], classes: int) -> Floats:
    others = np.log((1.0 - confidence) / (classes - 1))
    logits = np.repeat(others[:, np.newaxis], classes, axis=1)
    logits[np.arange(len(said)), said] = np.log(confidence)
    return logits
