"""What an engine is: its input, its labels, and what is known of each of its exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path


class Kind(str, Enum):
    """What a frame for this engine holds."""

    IMAGE = "image"
    AUDIO = "audio"
    TENSOR = "tensor"


class Resize(str, Enum):
    """How an image of another size comes to the input's."""

    STRETCH = "stretch"
    CROP = "crop"
    """Scaled to cover it, what stands over is cut off at the edges."""
    PAD = "pad"
    """Scaled to fit into it, the rest is black."""
    NONE = "none"
    """Not at all: an image of another size is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """How a frame becomes the first stage's `input`.

    `shape` is without the batch axis: (channels, height, width) or (height, width, channels) for
    an image, (samples,) or (1, samples) for a sound. An image's values are scaled to 0..1, then
    `(value - mean) / std` per channel; a sound's are -1..1 at `sample_rate_hz`.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "CHW"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: Resize = Resize.STRETCH
    sample_rate_hz: int = 16_000


class Precision(str, Enum):
    """The smallest type that a TensorRT plan may calculate in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """What an engine's TensorRT plans were built by and for: on anything else they do not run."""

    tensorrt: str
    """The version that built them."""
    device: str
    precision: Precision
    batches: tuple[int, ...]
    """The largest batch of each optimisation profile, rising."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """How long one stage takes for one batch size, in seconds."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationError:
    """How far an exit's confidence is from its accuracy, before and after calibration (0..1)."""

    before: float
    after: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One subnetwork and its exit.

    `flops`, `parameters` and `energy_j` are this stage's own, not cumulated.
    """

    onnx: Path | None = None
    tensorrt: Path | None = None
    accuracy: float | None = None
    flops: float | None = None
    parameters: int | None = None
    energy_j: float | None = None
    latency: Mapping[int, Latency] = field(default_factory=dict)
    temperature: float = 1.0
    calibration_error: CalibrationError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdRow:
    """What comes of leaving at the first exit whose confidence reaches `threshold`."""

    threshold: float
    exit_shares: tuple[float, ...]
    """The fraction of frames that leave at each exit."""
    accuracy: float
    latency_s: float
    """The mean over the frames, of stages alone at batch size 1."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A multi-exit model on disk, as its manifest describes it."""

    name: str
    kind: Kind
    input: InputSpec
    labels: tuple[str, ...]
    stages: tuple[Stage, ...]
    folder: Path
    energy_source: str = "modelled"
    """Where the stages' energies come from: `measured` by a meter, or `modelled`."""
    thresholds: tuple[ThresholdRow, ...] = ()
    """By rising threshold."""
    build: Build | None = None
    """Of the stages' TensorRT plans, where `delen compile` built some."""

    @property
    def last_exit(self) -> int:
        return len(self.stages) - 1

    def label(self, index: int) -> str:
        """The label of a class, or its number where the engine has no labels."""
        return self.labels[index] if index < len(self.labels) else str(index)

    @cached_property
    def energies_j(self) -> tuple[float | None, ...]:
        """Joules of each stage, None where it was not profiled."""
        return tuple(stage.energy_j for stage in self.stages)

    @cached_property
    def energy_to_j(self) -> tuple[float | None, ...]:
        """Joules from the input to each exit, None where a stage before it was not profiled."""
        return cumulated(self.energies_j)

    @cached_property
    def flops_to(self) -> tuple[float | None, ...]:
        """FLOPs from the input to each exit, None where a stage before it was not profiled."""
        return cumulated([stage.flops for stage in self.stages])

    @cached_property
    def better_exit(self) -> tuple[int | None, ...]:
        """For each exit the next deeper one that no exit up to it equals in accuracy, or None.

        What lies between is dominated: deeper, costlier and no more accurate. Exits whose
        accuracy is not known are taken to be better than those before them.
        """
        found: list[int | None] = []
        for exit_ in range(len(self.stages)):
            best = max(stage.accuracy or 0.0 for stage in self.stages[: exit_ + 1])
            deeper = range(exit_ + 1, len(self.stages))
            found.append(next((d for d in deeper if _beats(self.stages[d].accuracy, best)), None))
        return tuple(found)

    @cached_property
    def dominated_exits(self) -> tuple[int, ...]:
        """Exits that an earlier one equals or beats in accuracy."""
        reachable = {0, *self.better_exit}
        return tuple(e for e in range(len(self.stages)) if e not in reachable)


def _beats(accuracy: float | None, best: float) -> bool:
    return accuracy is None or accuracy > best


def cumulated(values: Sequence[float | None]) -> tuple[float | None, ...]:
    """The running sums, None from the first value on that is not known."""
    total: float | None = 0.0
    sums: list[float | None] = []
    for value in values:
        total = None if total is None or value is None else total + value
        sums.append(total)
    return tuple(sums)
