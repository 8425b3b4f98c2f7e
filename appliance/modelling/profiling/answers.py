"""What every exit of an engine says to labelled frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.backends.protocol import Backend
from appliance.engine import Engine
from appliance.modelling.datasets import Example, batches
from appliance.modelling.profiling.calibration import Classes, Logits

BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The logits of every exit for the same frames, and what was right."""

    logits: tuple[Logits, ...]
    """Per exit, shape (frames, classes)."""
    classes: Classes

    def __len__(self) -> int:
        return len(self.classes)

    def accuracy(self, exit_: int) -> float:
        return float((self.logits[exit_].argmax(axis=1) == self.classes).mean())

    def of(self, frames: NDArray[np.int64]) -> Answers:
        """Those to some of the frames, by their numbers."""
        return Answers(
            logits=tuple(logits[frames] for logits in self.logits), classes=self.classes[frames]
        )


def answers(
    engine: Engine,
    backend: Backend,
    examples: Sequence[Example],
    *,
    report: Callable[[float], None] = lambda _done: None,
) -> Answers:
    """Runs every frame through all stages, decoded as the appliance does; `report`s the fraction.

    Raises ModellingError for frames that cannot be decoded and for labels that the engine lacks.
    """
    logits: list[list[NDArray[np.float32]]] = [[] for _ in engine.stages]
    classes: list[Classes] = []
    for batch in batches(
        examples, BATCH_SIZE, labels=engine.labels, spec=engine.input, kind=engine.kind
    ):
        features = [backend.feed(frame[np.newaxis]) for frame in batch.inputs]
        for stage in range(len(engine.stages)):
            output, following = backend.run(stage, features)
            logits[stage].append(output)
            features = list(following)
        classes.append(batch.classes)
        report(min(1.0, BATCH_SIZE * len(classes) / len(examples)))
    return Answers(
        logits=tuple(np.concatenate(parts) for parts in logits), classes=np.concatenate(classes)
    )
