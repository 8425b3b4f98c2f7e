"""What a training minimises: the answers of all exits, judged as one number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from appliance.modelling.run_folder import TrainSpec

DISTILLATION_TEMPERATURE = 3.0
"""Softens what the last exit says, so that the classes it finds alike show (Hinton et al. 2015)."""


def total_loss(answers: Sequence[Tensor], classes: Tensor, spec: TrainSpec) -> Tensor:
    """The loss of a batch: `answers` are logits of shape (N, classes) per exit.

    A part of it, `spec.distillation`, is how far the earlier exits are from the last.
    """
    loss = (
        weighted_sum(answers, classes, spec.exit_weights)
        if spec.loss == "weighted-sum"
        else residual(answers, classes, summed=spec.evaluation == "residual")
    )
    if not spec.distillation:
        return loss
    taught = distillation(answers, spec.exit_weights)
    return (1.0 - spec.distillation) * loss + spec.distillation * taught


def weighted_sum(answers: Sequence[Tensor], classes: Tensor, weights: Sequence[float]) -> Tensor:
    """The mean cross-entropy of each exit's answers, times the exit's weight."""
    losses = [
        weight * functional.cross_entropy(logits, classes)
        for weight, logits in zip(weights, answers, strict=True)
    ]
    return torch.stack(losses).sum()


def residual(answers: Sequence[Tensor], classes: Tensor, *, summed: bool) -> Tensor:
    """The cross-entropy of the sum of all exits' logits, as in Dělen.

    Each exit learns what the ones before it have left open. `summed` says that every answer is
    the sum so far already.
    """
    total = answers[-1] if summed else torch.stack(list(answers)).sum(dim=0)
    return functional.cross_entropy(total, classes)


def distillation(answers: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """How far the exits are from what the last one says of the same examples, times their weights.

    The Kullback-Leibler divergence of the softened probabilities, times the temperature squared so
    that its gradients keep their size. The last exit is the teacher, and learns nothing of it
    (Phuong and Lampert 2019, Distillation-Based Training for Multi-Exit Architectures).
    """
    temperature = DISTILLATION_TEMPERATURE
    teacher = functional.log_softmax(answers[-1].detach() / temperature, dim=1)
    losses = [
        weight
        * temperature**2
        * functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            teacher,
            reduction="batchmean",
            log_target=True,
        )
        for weight, logits in zip(weights[:-1], answers[:-1], strict=True)
    ]
    return torch.stack(losses).sum() if losses else torch.zeros_like(answers[-1].sum())
