"""Frames as they might have been: in another light, from elsewhere, a little sooner."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from appliance.engine import Kind

SMALLEST_CROP = 0.6
"""Of an image's side."""
MOST_DEGREES = 15.0
MOST_CONTRAST = 0.3
MOST_BRIGHTNESS = 0.3
"""In normalised values, of which most are between -2 and 2."""
MOST_SHIFT = 0.1
"""Of a sound's length."""


def augmented(inputs: Tensor, kind: Kind) -> Tensor:
    """A batch seen or heard anew, each example otherwise, by torch's random numbers.

    Images of shape (N, channels, height, width) are cropped, turned, mirrored and lit otherwise;
    sounds, samples last, are shifted, louder or quieter. Tensors stay as they are.
    """
    if kind is Kind.IMAGE:
        return _lit(_placed(inputs))
    if kind is Kind.AUDIO:
        return _shifted(inputs) * _uniform(inputs, 0.5, 1.5)
    return inputs


def _placed(images: Tensor) -> Tensor:
    count = len(images)
    scale = torch.empty(count, device=images.device).uniform_(SMALLEST_CROP, 1.0)
    angle = torch.empty_like(scale).uniform_(-1.0, 1.0) * math.radians(MOST_DEGREES)
    mirror = torch.randint(0, 2, (count,), device=images.device) * 2.0 - 1.0
    # Where the crop lies in what is left of the image around it.
    across, down = torch.empty(2, count, device=images.device).uniform_(-1.0, 1.0) * (1.0 - scale)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [mirror * cos, -sin, across, mirror * sin, cos, down]
    placing = torch.stack(rows, dim=1).reshape(count, 2, 3)
    grid = functional.affine_grid(placing, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=False
    )


def _lit(images: Tensor) -> Tensor:
    contrast = _uniform(images, 1.0 - MOST_CONTRAST, 1.0 + MOST_CONTRAST)
    return images * contrast + _uniform(images, -MOST_BRIGHTNESS, MOST_BRIGHTNESS)


def _shifted(sounds: Tensor) -> Tensor:
    most = int(MOST_SHIFT * sounds.shape[-1])
    padded = functional.pad(sounds, (most, most))
    starts = torch.randint(0, 2 * most + 1, (len(sounds),)).tolist()
    return torch.stack(
        [
            sound[..., start : start + sounds.shape[-1]]
            for sound, start in zip(padded, starts, strict=True)
        ]
    )


def _uniform(inputs: Tensor, low: float, high: float) -> Tensor:
    """A number for each example, to be multiplied with or added to all of its values."""
    shape = (len(inputs), *(1 for _ in inputs.shape[1:]))
    return torch.empty(shape, device=inputs.device).uniform_(low, high)
