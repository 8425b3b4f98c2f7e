"""What a training minimises, and how the gradients of several exits are shared."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.training.augmentation import augmented
from appliance.modelling.training.gradients import rescale_gradients
from appliance.modelling.training.losses import distillation, residual, total_loss, weighted_sum
from tests.modelling.runs import small_spec

pytestmark = pytest.mark.training

UNSURE = torch.zeros(4, 2)
SURE = torch.tensor([[5.0, 0.0]] * 4)
FIRST = torch.zeros(4, dtype=torch.int64)


def test_the_weighted_sum_counts_each_exit_by_its_weight() -> None:
    loss = weighted_sum([UNSURE, UNSURE], FIRST, [0.25, 2.0])

    assert float(loss) == pytest.approx(2.25 * math.log(2))


def test_the_residual_loss_is_of_the_sum_of_all_answers() -> None:
    opposite = torch.tensor([[-5.0, 0.0]] * 4)

    loss = residual([SURE, opposite], FIRST, summed=False)

    assert float(loss) == pytest.approx(math.log(2))


def test_the_residual_loss_takes_the_last_answer_where_it_is_the_sum() -> None:
    assert float(residual([UNSURE, SURE], FIRST, summed=True)) == pytest.approx(0.0067, abs=1e-4)


def test_an_exit_that_says_what_the_last_one_says_has_nothing_to_learn_from_it() -> None:
    assert float(distillation([SURE, SURE], [1.0, 1.0])) == pytest.approx(0.0, abs=1e-6)
    assert float(distillation([UNSURE, SURE], [1.0, 1.0])) > 1.0


def test_the_last_exit_learns_nothing_from_its_pupils() -> None:
    last = SURE.clone().requires_grad_()

    distillation([UNSURE.clone().requires_grad_(), last], [1.0, 1.0]).backward()

    assert last.grad is None


def test_distillation_is_a_part_of_the_loss(tmp_path: Path) -> None:
    spec = replace(small_spec(tmp_path), exit_weights=(0.5, 0.5), distillation=0.25)
    answers = [UNSURE, SURE]

    loss = total_loss(answers, FIRST, spec)

    own, taught = weighted_sum(answers, FIRST, (0.5, 0.5)), distillation(answers, (0.5, 0.5))
    assert float(loss) == pytest.approx(float(0.75 * own + 0.25 * taught))


def test_rescaled_gradients_do_not_grow_with_the_number_of_exits() -> None:
    plain, rescaled = (
        _gradients_of_the_first_stage(rescale=False),
        _gradients_of_the_first_stage(rescale=True),
    )

    # Four exits that all pull by 1: added up they are 4, averaged 1.
    assert float(plain) == pytest.approx(4.0)
    assert float(rescaled) == pytest.approx(1.0)


def test_augmented_images_keep_their_shape_and_are_seen_otherwise() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 3, 20, 24)

    first, second = augmented(images, Kind.IMAGE), augmented(images, Kind.IMAGE)

    assert first.shape == images.shape
    assert not torch.allclose(first, second)


def test_augmented_sounds_are_shifted_by_no_more_than_a_tenth() -> None:
    torch.manual_seed(0)
    click = torch.zeros(64, 1000)
    click[:, 500] = 1.0

    places = augmented(click, Kind.AUDIO).argmax(dim=1)

    assert 400 <= int(places.min()) < 450
    assert 550 < int(places.max()) <= 600


def test_tensors_are_not_augmented() -> None:
    tensors = torch.rand(2, 5)

    assert augmented(tensors, Kind.TENSOR) is tensors


class _Identity(nn.Module):  # type: ignore[misc]
    def forward(self, features: Tensor) -> Tensor:
        return features * 1.0


class _Scale(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.weight


def _gradients_of_the_first_stage(*, rescale: bool) -> Tensor:
    first = _Scale()
    network = MultiExitNetwork(
        kind=Kind.TENSOR,
        input=InputSpec(shape=(1,)),
        stages=[first, *(_Identity() for _ in range(3))],
        heads=[_Identity() for _ in range(4)],
    )
    if rescale:
        rescale_gradients(network)
    torch.stack(network(torch.ones(1, 1))).sum().backward()
    gradient = first.weight.grad
    assert gradient is not None
    return gradient
