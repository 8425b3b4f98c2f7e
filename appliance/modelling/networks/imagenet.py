"""How networks that were made for ImageNet want their images."""

from __future__ import annotations

from appliance.engine import InputSpec


def imagenet_input(*, side: int) -> InputSpec:
    """Square RGB images, normalised by the mean and the deviation of ImageNet's pixels."""
    return InputSpec(shape=(3, side, side), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
