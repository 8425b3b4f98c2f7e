"""One epoch of a training after another, on whatever devices there are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from appliance.errors import ModellingError
from appliance.modelling.datasets import Batch, Dataset, Example, Part
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.networks.pretrained import Weights
from appliance.modelling.run_folder import EpochTrace, TrainSpec
from appliance.modelling.training.augmentation import augmented
from appliance.modelling.training.gradients import rescale_gradients
from appliance.modelling.training.loading import in_batches, loaded
from appliance.modelling.training.losses import total_loss

MOMENTUM, SGD_WEIGHT_DECAY, ADAMW_WEIGHT_DECAY = 0.9, 1e-4, 0.02
WARM_UP = 0.2
"""The fraction of a one-cycle training in which the learning rate rises, before it falls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a training stands after a batch: epochs from 1, accuracies of the epoch so far."""

    epoch: int
    batch: int
    batches: int
    train_accuracy: tuple[float, ...]


def accelerator() -> Accelerator:
    """The devices and the processes that train together, as torchrun or accelerate set them up."""
    if torch.cuda.is_available():
        return Accelerator(mixed_precision="bf16" if torch.cuda.is_bf16_supported() else "fp16")
    return Accelerator(cpu=True, mixed_precision="bf16" if _multiplies_bfloat16() else "no")


class Course:
    """A network on its way through the epochs, with its optimizer and its schedule.

    Every epoch begins with random numbers of its own, made of the spec's seed and its number: so a
    course that goes on from a checkpoint comes to what it would have come to.
    """

    def __init__(  # noqa: PLR0913 - what a training consists of
        self,
        spec: TrainSpec,
        network: MultiExitNetwork,
        dataset: Dataset,
        *,
        devices: Accelerator,
        workers: int,
        report: Callable[[Step], None],
    ) -> None:
        self._spec = spec
        self._dataset = dataset
        self._devices = devices
        self._workers = workers
        self._report = report
        if spec.rescale_gradients:
            rescale_gradients(network)
        # The order of axes in which convolutions are fastest.
        self._network = network.to(devices.device, memory_format=torch.channels_last)
        share = self._share(dataset.examples(Part.TRAIN))
        self._batches = len(in_batches(share, spec.batch_size))
        optimizer = _optimizer(network, spec)
        self._schedule = _schedule(optimizer, spec, self._batches)
        self._prepared, self._optimizer = devices.prepare(network, optimizer)

    def epoch(self, number: int) -> EpochTrace:
        """Trains on all of the training part once, then validates. Raises ModellingError."""
        started_s = time.monotonic()
        seeds = np.random.SeedSequence((self._spec.seed, number, self._devices.process_index))
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        trained, validated = self._trained(number), self._validated()
        return EpochTrace(
            epoch=number,
            duration_s=time.monotonic() - started_s,
            train_loss=trained.mean_loss,
            valid_loss=validated.mean_loss,
            train_accuracy=trained.accuracy,
            valid_accuracy=validated.accuracy,
        )

    def weights(self) -> Weights:
        """A copy of the network's weights, in the main memory."""
        return {
            name: tensor.detach().to("cpu", copy=True).contiguous()
            for name, tensor in self._network.state_dict().items()
        }

    def state(self) -> dict[str, dict[str, Any]]:
        """What the optimizer and the schedule remember."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def go_on_from(
        self, weights: Weights, *, optimizer: dict[str, Any], schedule: dict[str, Any]
    ) -> None:
        """Takes up where another course was when it gave these."""
        self._network.load_state_dict(weights)
        self._optimizer.load_state_dict(optimizer)
        self._schedule.load_state_dict(schedule)

    def _trained(self, epoch: int) -> _Tally:
        self._prepared.train()
        tally = self._new_tally()
        examples = self._dataset.examples(Part.TRAIN, view=epoch)
        order = np.random.default_rng((self._spec.seed, epoch)).permutation(len(examples))
        share = self._share([examples[number] for number in order])
        for number, batch in enumerate(self._batches_of(share, self._spec.batch_size), start=1):
            inputs, classes = self._on_device(batch)
            if self._spec.augment:
                inputs = augmented(inputs, self._network.kind)
            answers = self._prepared(inputs)
            loss = total_loss(answers, classes, self._spec)
            if not torch.isfinite(loss):
                raise ModellingError(
                    f"the loss is no number any more in epoch {epoch}: train with a lower"
                    " --learning-rate"
                )
            self._optimizer.zero_grad(set_to_none=True)
            self._devices.backward(loss)
            self._optimizer.step()
            self._schedule.step()
            tally.add(answers, classes, loss)
            self._report(
                Step(
                    epoch=epoch, batch=number, batches=self._batches, train_accuracy=tally.accuracy
                )
            )
        return tally.of_all(self._devices)

    def _validated(self) -> _Tally:
        """By the plain network: the processes' shares of the examples need not be alike."""
        self._prepared.eval()
        tally = self._new_tally()
        valid = self._dataset.examples(Part.VALID)
        share = valid[self._devices.process_index :: self._devices.num_processes]
        with torch.inference_mode(), self._devices.autocast():
            for batch in self._batches_of(share, self._spec.batch_size):
                inputs, classes = self._on_device(batch)
                answers = [answer.float() for answer in self._network(inputs)]
                tally.add(answers, classes, total_loss(answers, classes, self._spec))
        return tally.of_all(self._devices)

    def _share(self, examples: Sequence[Example]) -> Sequence[Example]:
        """This process's part of the examples: as many as every other's, since they keep step."""
        together = self._devices.num_processes
        alike = len(examples) // together * together
        return examples[self._devices.process_index : alike : together]

    def _batches_of(self, examples: Sequence[Example], size: int) -> Iterator[Batch]:
        return loaded(
            examples,
            size,
            labels=self._spec.labels,
            spec=self._network.input,
            kind=self._network.kind,
            workers=self._workers,
        )

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        inputs = torch.from_numpy(batch.inputs).to(self._devices.device)
        if inputs.dim() == 4:
            inputs = inputs.to(memory_format=torch.channels_last)
        return inputs, torch.from_numpy(batch.classes).to(self._devices.device)

    def _new_tally(self) -> _Tally:
        return _Tally(right=torch.zeros(len(self._network.stages), device=self._devices.device))


@dataclass(kw_only=True)
class _Tally:
    """The loss and the right answers of every exit, summed up over batches."""

    right: Tensor
    sums: Tensor = field(init=False)
    """The losses, and how many examples they are of."""

    def __post_init__(self) -> None:
        self.sums = self.right.new_zeros(2)

    def add(self, answers: Sequence[Tensor], classes: Tensor, loss: Tensor) -> None:
        self.right += torch.stack([(answer.argmax(1) == classes).sum() for answer in answers])
        self.sums += torch.stack([loss.detach() * len(classes), loss.new_tensor(len(classes))])

    def of_all(self, devices: Accelerator) -> _Tally:
        """The sums over all processes."""
        whole = _Tally(right=devices.reduce(self.right, "sum"))
        whole.sums = devices.reduce(self.sums, "sum")
        return whole

    @property
    def accuracy(self) -> tuple[float, ...]:
        return tuple((self.right / self.sums[1]).tolist())

    @property
    def mean_loss(self) -> float:
        return float(self.sums[0] / self.sums[1])


def _optimizer(network: MultiExitNetwork, spec: TrainSpec) -> torch.optim.Optimizer:
    weights, rate = network.parameters(), spec.learning_rate
    match spec.optimizer:
        case "sgd":
            return torch.optim.SGD(
                weights, lr=rate, momentum=MOMENTUM, weight_decay=SGD_WEIGHT_DECAY
            )
        case "adam":
            return torch.optim.Adam(weights, lr=rate)
        case "adamw":
            return torch.optim.AdamW(weights, lr=rate, weight_decay=ADAMW_WEIGHT_DECAY)


def _schedule(
    optimizer: torch.optim.Optimizer, spec: TrainSpec, batches: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if not spec.one_cycle:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=spec.learning_rate, total_steps=spec.epochs * batches, pct_start=WARM_UP
    )


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16: without them it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
