"""What leaving early saves on the digits engine, timed stage by stage, against the last exit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from appliance import frames, manifest
from appliance.answer import softmax
from appliance.backends.onnx import OnnxBackend
from appliance.engine import Engine
from appliance.modelling.datasets import Digits, Example, Part
from appliance.modelling.profiling.profile import Suggestion, profile, suggest_thresholds
from appliance.modelling.profiling.thresholds import NEVER, parse_goal
from benchmarks.report import Finding, report, tell

ENGINE = Path("engines/digits")
GOAL = "accuracy >= final - 1%"
CUT, LOSS = 0.40, 0.01
ROUNDS = 5


def measure() -> Finding:
    engine = manifest.load(ENGINE)
    dataset = Digits()
    with OnnxBackend(engine, threads=1) as backend:
        tell("early_exit: calibrating, and finding thresholds on the validation frames")
        found = profile(
            engine, backend, dataset, batch_sizes=(1,), runs=200, report=lambda _name, _done: None
        )
        suggestion = suggest_thresholds(found, GOAL, parse_goal(GOAL))
        _print_curve(found.engine, suggestion)
        run = _Run(found.engine, backend, dataset.examples(Part.TEST))
        early_ms: list[float] = []
        full_ms: list[float] = []
        for number in range(ROUNDS):
            tell(f"early_exit: round {number + 1} of {ROUNDS}")
            # One after the other, frame by frame, so that the machine's moods meet both.
            times_s = [run.both(frame, suggestion) for frame in range(len(run))]
            early_ms.append(1e3 * statistics.fmean(early_s for early_s, _ in times_s))
            full_ms.append(1e3 * statistics.fmean(full_s for _, full_s in times_s))
    early_right, full_right = suggestion.tested.accuracy, suggestion.final_accuracy
    cuts = [1.0 - early / full for early, full in zip(early_ms, full_ms, strict=True)]
    cut, loss = statistics.median(cuts), full_right - early_right
    return Finding(
        name="early_exit",
        figure=round(100 * cut, 1),
        unit="% less mean latency than the last exit",
        goal=f">= {CUT:.0%} at <= {LOSS:.0%} loss of accuracy",
        met=cut >= CUT and loss <= LOSS,
        measured={
            "goal_given": GOAL,
            "thresholds": list(suggestion.found.thresholds),
            "accuracy": round(early_right, 4),
            "accuracy_of_the_last_exit": round(full_right, 4),
            "accuracy_on_validation_frames": round(suggestion.found.accuracy, 4),
            "exit_shares": [round(share, 3) for share in suggestion.tested.exit_shares],
            "mean_ms": round(statistics.median(early_ms), 3),
            "mean_ms_of_the_last_exit": round(statistics.median(full_ms), 3),
            "cut_of_each_round": [round(value, 3) for value in cuts],
            "curve": [
                {
                    "threshold": row.threshold,
                    "accuracy": round(row.accuracy, 4),
                    "mean_ms": round(row.latency_s * 1e3, 3),
                }
                for row in found.engine.thresholds
            ],
            "test_frames": found.test_frames,
            "validation_frames": found.valid_frames,
            "threads": 1,
        },
    )


class _Run:
    """Test frames through the stages, with and without leaving early."""

    def __init__(self, engine: Engine, backend: OnnxBackend, examples: Sequence[Example]) -> None:
        self._engine = engine
        self._backend = backend
        self._inputs = [
            frames.decode(example.read(), None, engine.input, engine.kind) for example in examples
        ]

    def __len__(self) -> int:
        return len(self._inputs)

    def both(self, frame: int, suggestion: Suggestion) -> tuple[float, float]:
        """Seconds with the suggested thresholds, and with none."""
        never = [NEVER] * self._engine.last_exit
        runs = [("early", suggestion.found.thresholds), ("full", never)]
        taken_s = {}
        for name, thresholds in runs if frame % 2 else reversed(runs):
            started_s = time.perf_counter()
            self._answer(self._inputs[frame], thresholds)
            taken_s[name] = time.perf_counter() - started_s
        return taken_s["early"], taken_s["full"]

    def _answer(self, frame: NDArray[Any], thresholds: Sequence[float]) -> int:
        """The exit that a frame leaves at."""
        features = self._backend.feed(frame)
        for exit_, threshold in enumerate(thresholds):
            logits, following = self._backend.run(exit_, [features])
            temperature = self._engine.stages[exit_].temperature
            if softmax(logits[0] / np.float32(temperature)).max() >= threshold:
                return exit_
            features = following[0]
        self._backend.run(self._engine.last_exit, [features])
        return self._engine.last_exit


def _print_curve(engine: Engine, suggestion: Suggestion) -> None:
    table = Table("confidence", "accuracy", "mean ms", "leave by exit, %")
    for row in engine.thresholds:
        table.add_row(f"{row.threshold:.2f}", *_cells(row.accuracy, row.latency_s, row.exit_shares))
    tested = suggestion.tested
    table.add_row("suggested", *_cells(tested.accuracy, tested.latency_s, tested.exit_shares))
    last = (0.0,) * engine.last_exit + (1.0,)
    table.add_row("last exit", *_cells(suggestion.final_accuracy, suggestion.final_latency_s, last))
    Console(stderr=True).print(table)


def _cells(accuracy: float, latency_s: float, shares: Sequence[float]) -> tuple[str, str, str]:
    leaving = " ".join(f"{100 * share:.0f}" for share in shares)
    return f"{accuracy:.1%}", f"{latency_s * 1e3:.2f}", leaving


if __name__ == "__main__":
    report(measure())
