"""A residual network of four stages for grey frames of 96x96 pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.multi_exit import MultiExitNetwork

INPUT = InputSpec(shape=(1, 96, 96), mean=(0.5,), std=(0.5,))


@dataclass(frozen=True, kw_only=True, slots=True)
class _StageShape:
    """`width` channels through `blocks` residual blocks; the head sees a grid of `cells` a side."""

    width: int
    blocks: int
    stride: int
    cells: int


# Each stage costs a core about as much as the others, and sees further than those before it.
_STAGES = (
    _StageShape(width=24, blocks=2, stride=2, cells=3),
    _StageShape(width=24, blocks=2, stride=1, cells=2),
    _StageShape(width=40, blocks=3, stride=2, cells=1),
    _StageShape(width=64, blocks=2, stride=1, cells=1),
)


def build(name: str, classes: int) -> tuple[MultiExitNetwork, None]:  # noqa: ARG001 - one variant
    """The digits network: convolutional stages at 48, 48, 24 and 24 pixels a side.

    Nobody publishes weights of it.

    What one feature sees grows with its depth: a fifth of the frame's width at exit 0, two fifths
    at exit 1, nearly all of it at exit 2. That is what makes the early exits weak.
    """
    stages, heads = [], []
    channels = INPUT.shape[0]
    for shape in _STAGES:
        stages.append(_stage(channels, shape))
        heads.append(_head(shape, classes))
        channels = shape.width
    return MultiExitNetwork(kind=Kind.IMAGE, input=INPUT, stages=stages, heads=heads), None


class ResidualBlock(nn.Module):  # type: ignore[misc]
    """Two convolutions and a way around them (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(width, width),
            nn.ReLU(inplace=True),
            *_convolution(width, width),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(features + self.residual(features))


def _stage(channels: int, shape: _StageShape) -> nn.Sequential:
    entry = nn.Sequential(
        *_convolution(channels, shape.width, stride=shape.stride), nn.ReLU(inplace=True)
    )
    return nn.Sequential(entry, *(ResidualBlock(shape.width) for _ in range(shape.blocks)))


def _head(shape: _StageShape, classes: int) -> nn.Sequential:
    """A linear classifier on the strongest response of each channel in each cell of the grid.

    It learns in fewer epochs than the mean would, since most of a frame is background.
    """
    return nn.Sequential(
        nn.AdaptiveMaxPool2d(shape.cells),
        nn.Flatten(),
        nn.Linear(shape.width * shape.cells**2, classes),
    )


def _convolution(channels: int, width: int, *, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(width)
