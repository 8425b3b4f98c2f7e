"""Lets every exit move the weights that it shares with others equally."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from appliance.modelling.networks.multi_exit import MultiExitNetwork


def rescale_gradients(network: MultiExitNetwork) -> None:
    """Gradient equilibrium: the gradients of all later exits are averaged, not added up.

    Without it the first stages get the gradients of every exit, which grow with their number.
    Of *k* exits left to come, one leaves by the head, which gets 1/k of the gradient; the stage
    that the others go through gets the rest (Li et al. 2019, Improved Techniques for Training
    Adaptive Deep Networks). No answer changes.
    """
    exits = len(network.stages)
    for number in range(exits - 1):
        left = exits - number
        network.heads[number].register_forward_pre_hook(partial(_scaled, 1.0 / left))
        network.stages[number + 1].register_forward_pre_hook(partial(_scaled, (left - 1) / left))


def _scaled(factor: float, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return (_ScaledGradient.apply(inputs[0], factor), *inputs[1:])


class _ScaledGradient(torch.autograd.Function):  # type: ignore[misc]
    """The same tensor, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None
