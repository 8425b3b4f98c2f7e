"""A four-exit ResNet-50 with random weights, as ONNX: in stages and in one piece."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

SHAPE = (3, 224, 224)
CLASSES = 101
WIDTHS, BLOCKS, EXPANSION = (64, 128, 256, 512), (3, 4, 6, 3), 4


def export_resnet50(folder: Path) -> tuple[list[Path], Path]:
    """The files of the four stages, and of the same network undivided with all its heads."""
    torch.manual_seed(0)
    stages = nn.ModuleList(_stages()).eval()
    heads = nn.ModuleList(_head(width * EXPANSION) for width in WIDTHS).eval()
    features = torch.zeros(1, *SHAPE)
    paths = []
    for number, (stage, head) in enumerate(zip(stages, heads, strict=True)):
        last = number == len(stages) - 1
        path = folder / f"stage{number}.onnx"
        names = ["output"] if last else ["output", "features"]
        _export(_Exit(stage, head, last=last), features, path, names)
        with torch.no_grad():
            features = stage(features)
        paths.append(path)
    whole = folder / "whole.onnx"
    outputs = [f"output{number}" for number in range(len(heads))]
    _export(_Whole(stages, heads), torch.zeros(1, *SHAPE), whole, outputs)
    return paths, whole


class _Exit(nn.Module):  # type: ignore[misc]
    def __init__(self, stage: nn.Module, head: nn.Module, *, last: bool) -> None:
        super().__init__()
        self.stage, self.head, self.last = stage, head, last

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        features = self.stage(features)
        output = self.head(features)
        return (output,) if self.last else (output, features)


class _Whole(nn.Module):  # type: ignore[misc]
    def __init__(self, stages: nn.ModuleList, heads: nn.ModuleList) -> None:
        super().__init__()
        self.stages, self.heads = stages, heads

    def forward(self, features: Tensor) -> list[Tensor]:
        outputs = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            features = stage(features)
            outputs.append(head(features))
        return outputs


class _Bottleneck(nn.Module):  # type: ignore[misc]
    """Three convolutions and a way around them (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.residual = nn.Sequential(
            *_convolution(channels, width, 1),
            nn.ReLU(),
            *_convolution(width, width, 3, stride),
            nn.ReLU(),
            *_convolution(width, out, 1),
        )
        same = stride == 1 and channels == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_convolution(channels, out, 1, stride))
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.residual(features) + self.shortcut(features))


def _stages() -> list[nn.Sequential]:
    stem = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    stages, channels = [], 64
    for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
        layers: list[nn.Module] = [] if number else stem
        for block in range(blocks):
            stride = 2 if number and not block else 1
            layers.append(_Bottleneck(channels, width, stride))
            channels = width * EXPANSION
        stages.append(nn.Sequential(*layers))
    return stages


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def _convolution(
    channels: int, out: int, kernel: int, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(out)


def _export(module: nn.Module, example: Tensor, path: Path, outputs: list[str]) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            path,
            input_names=["input"],
            output_names=outputs,
            dynamo=False,
        )
