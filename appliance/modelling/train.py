"""Trains a multi-exit network: all exits at once, by the weighted sum of their losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from appliance.errors import ModellingError
from appliance.modelling.datasets import Batch, Dataset, Example, Part, batches
from appliance.modelling.folders import replaced_folder
from appliance.modelling.networks import build
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.run_folder import (
    SPEC,
    WEIGHTS,
    EpochTrace,
    TrainSpec,
    write_spec,
    write_trace,
)

WEIGHT_DECAY = 0.02
WARM_UP = 0.2
"""The fraction of the training in which the learning rate rises, before it falls to nothing."""
VALID_BATCH_SIZE = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a training stands after a batch: epochs from 1, accuracies of the epoch so far."""

    epoch: int
    batch: int
    batches: int
    train_accuracy: tuple[float, ...]


def train(
    spec: TrainSpec,
    dataset: Dataset,
    out: Path,
    *,
    report: Callable[[Step], None],
) -> tuple[EpochTrace, ...]:
    """Trains from fresh weights, and writes the run folder `out` once all epochs are done.

    Its weights are those of the epoch with the lowest loss on the validation part. `report` is
    called after every batch. Raises ModellingError where the dataset does not serve, or where the
    loss is no number any more.
    """
    if not dataset.examples(Part.TRAIN) or not dataset.examples(Part.VALID):
        raise ModellingError(
            "the dataset has no examples for training or none for validation: a folder needs the"
            " sub-folders `train` and `valid`"
        )
    torch.manual_seed(spec.seed)
    network = build(spec.network, classes=len(spec.labels))
    if len(spec.exit_weights) != len(network.stages):
        raise ModellingError(
            f"{len(spec.exit_weights)} exit weights for the {len(network.stages)} exits of"
            f" {spec.network}: give one for each"
        )
    with replaced_folder(out, mark=SPEC) as folder:
        course = _Course(spec, network, dataset, report)
        traces: list[EpochTrace] = []
        best: dict[str, Tensor] = {}
        for number in range(1, spec.epochs + 1):
            trace = course.epoch(number)
            if all(trace.valid_loss < earlier.valid_loss for earlier in traces):
                best = deepcopy(network.state_dict())
            traces.append(trace)
        torch.save(best, folder / WEIGHTS)
        write_trace(traces, folder)
        write_spec(spec, folder)
    return tuple(traces)


@dataclass(kw_only=True)
class _Tally:
    """The loss and the right answers of every exit, summed up over batches."""

    right: NDArray[np.int64]
    loss: float = 0.0
    count: int = 0

    def add(self, answers: Sequence[Tensor], classes: Tensor, loss: Tensor) -> None:
        self.right += [int((answer.argmax(1) == classes).sum()) for answer in answers]
        self.loss += float(loss.detach()) * len(classes)
        self.count += len(classes)

    @property
    def accuracy(self) -> tuple[float, ...]:
        return tuple((self.right / self.count).tolist())

    @property
    def mean_loss(self) -> float:
        return self.loss / self.count


class _Course:
    """A network on its way through the epochs, with its optimizer and its schedule."""

    def __init__(
        self,
        spec: TrainSpec,
        network: MultiExitNetwork,
        dataset: Dataset,
        report: Callable[[Step], None],
    ) -> None:
        self._spec = spec
        # The order of axes in which a CPU's convolutions are fastest.
        self._network = network.to(memory_format=torch.channels_last)
        self._dataset = dataset
        self._report = report
        self._batches = math.ceil(len(dataset.examples(Part.TRAIN)) / spec.batch_size)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=spec.learning_rate, weight_decay=WEIGHT_DECAY
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            max_lr=spec.learning_rate,
            total_steps=spec.epochs * self._batches,
            pct_start=WARM_UP,
        )

    def epoch(self, number: int) -> EpochTrace:
        started_s = time.monotonic()
        trained, validated = self._trained(number), self._validated()
        return EpochTrace(
            epoch=number,
            duration_s=time.monotonic() - started_s,
            train_loss=trained.mean_loss,
            valid_loss=validated.mean_loss,
            train_accuracy=trained.accuracy,
            valid_accuracy=validated.accuracy,
        )

    def _trained(self, epoch: int) -> _Tally:
        self._network.train()
        tally = self._new_tally()
        examples = self._dataset.examples(Part.TRAIN, view=epoch)
        order = np.random.default_rng((self._spec.seed, epoch)).permutation(len(examples))
        shuffled = [examples[number] for number in order]
        for number, batch in enumerate(self._batches_of(shuffled, self._spec.batch_size), start=1):
            classes = torch.from_numpy(batch.classes)
            answers, loss = self._answers(batch, classes)
            if not torch.isfinite(loss):
                raise ModellingError(
                    f"the loss is no number any more in epoch {epoch}: train with a lower"
                    " --learning-rate"
                )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._schedule.step()
            tally.add(answers, classes, loss)
            self._report(
                Step(
                    epoch=epoch, batch=number, batches=self._batches, train_accuracy=tally.accuracy
                )
            )
        return tally

    def _validated(self) -> _Tally:
        self._network.eval()
        tally = self._new_tally()
        with torch.inference_mode():
            for batch in self._batches_of(self._dataset.examples(Part.VALID), VALID_BATCH_SIZE):
                classes = torch.from_numpy(batch.classes)
                answers, loss = self._answers(batch, classes)
                tally.add(answers, classes, loss)
        return tally

    def _answers(self, batch: Batch, classes: Tensor) -> tuple[list[Tensor], Tensor]:
        """The logits of every exit, and the weighted sum of their losses."""
        inputs = torch.from_numpy(batch.inputs).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=_multiplies_bfloat16()):
            answers = [answer.float() for answer in self._network(inputs)]
        losses = [nn.functional.cross_entropy(answer, classes) for answer in answers]
        weighted = zip(self._spec.exit_weights, losses, strict=True)
        return answers, sum((weight * loss for weight, loss in weighted), start=torch.zeros(()))

    def _batches_of(self, examples: Sequence[Example], size: int) -> Iterator[Batch]:
        return batches(
            examples,
            size,
            labels=self._spec.labels,
            spec=self._network.input,
            kind=self._network.kind,
        )

    def _new_tally(self) -> _Tally:
        return _Tally(right=np.zeros(len(self._network.stages), dtype=np.int64))


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16: without them it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
