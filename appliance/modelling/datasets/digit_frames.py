"""Handwritten digits as a camera over a form would see them."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

FRAME_SIDE = 96
"""Width and height of a frame in pixels."""

JPEG_QUALITY = 70
SCAN_SIDE = 8
SCAN_MAX = 16
SEED = 1797

Floats = NDArray[np.float32]


def jpeg_of(scan: NDArray[np.float64], *, number: int, view: int = 0) -> bytes:
    """A frame of a scan as a grey JPEG of 96x96 pixels, always the same for the same arguments.

    `scan` has shape (8, 8), values 0 (paper) to 16 (ink). `number` is the scan's own, and `view`
    counts the frames taken of it: each sees it from elsewhere and in another light.
    """
    rng = np.random.default_rng((SEED, number, view))
    ink = _blurred(_placed(scan, rng), radius=rng.uniform(1.0, 2.5))
    scene = _background(rng) * (1.0 - rng.uniform(0.3, 0.7) * ink)
    noise = rng.normal(scale=rng.uniform(0.02, 0.06), size=scene.shape)
    pixels = np.clip((scene + noise) * 255.0, 0.0, 255.0).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


def _placed(scan: NDArray[np.float64], rng: np.random.Generator) -> Image.Image:
    """The scan's ink, enlarged smoothly, turned, sheared and moved, as a grey image."""
    pixels_per_dot = rng.uniform(6.5, 9.5)
    angle = math.radians(rng.uniform(-15.0, 15.0))
    shear = rng.uniform(-0.15, 0.15)
    across, down = rng.uniform(-10.0, 10.0, size=2)
    # Pillow asks where in the scan each pixel of the frame comes from.
    cos, sin = math.cos(angle) / pixels_per_dot, math.sin(angle) / pixels_per_dot
    a, b, d, e = cos + shear * sin, sin + shear * cos, -sin, cos
    x, y = FRAME_SIDE / 2 + across, FRAME_SIDE / 2 + down
    margin = 2
    centre = SCAN_SIDE / 2 + margin
    padded = np.pad(scan / SCAN_MAX * 255.0, margin).round().astype(np.uint8)
    return Image.fromarray(padded).transform(
        (FRAME_SIDE, FRAME_SIDE),
        Image.Transform.AFFINE,
        (a, b, centre - a * x - b * y, d, e, centre - d * x - e * y),
        Image.Resampling.BICUBIC,
    )


def _blurred(image: Image.Image, *, radius: float) -> Floats:
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)
    ink: Floats = pixels / np.float32(255.0)
    return ink


def _background(rng: np.random.Generator) -> Floats:
    """Bright paper under a light that falls off to one side, with the glare of a lamp."""
    axis = np.linspace(-1.0, 1.0, FRAME_SIDE, dtype=np.float32)
    across, down = axis[np.newaxis, :], axis[:, np.newaxis]
    towards = rng.uniform(0.0, 2.0 * math.pi)
    slope = rng.uniform(0.0, 0.2)
    glare_x, glare_y = rng.uniform(-1.0, 1.0, size=2)
    glare = np.exp(-((across - glare_x) ** 2 + (down - glare_y) ** 2) / rng.uniform(0.1, 0.5))
    fall_off = slope * (math.cos(towards) * across + math.sin(towards) * down)
    light: Floats = rng.uniform(0.55, 0.75) + fall_off + rng.uniform(0.0, 0.25) * glare
    return light
