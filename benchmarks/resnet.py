"""A four-exit ResNet-50 with random weights, as ONNX: in stages and in one piece."""

from __future__ import annotations

from pathlib import Path

import torch

from appliance.modelling.networks import build
from appliance.modelling.onnx_export import export

SHAPE = (3, 224, 224)
CLASSES = 101


def export_resnet50(folder: Path) -> tuple[list[Path], Path]:
    """The files of the four stages, and of the same network undivided with all its heads."""
    torch.manual_seed(0)
    network = build("resnet50", classes=CLASSES).eval()
    frame = features = torch.zeros(1, *SHAPE)
    exits = len(network.stages)
    paths = [folder / f"stage{number}.onnx" for number in range(exits)]
    for number, path in enumerate(paths):
        subnetwork = network.subnetwork(number).eval()
        with torch.inference_mode():
            outputs = subnetwork(features)
        export(
            subnetwork, features, path, names=("input", "output", "features")[: len(outputs) + 1]
        )
        features = outputs[-1].clone()
    whole = folder / "whole.onnx"
    names = ("input", *(f"output{number}" for number in range(exits)))
    export(network, frame, whole, names=names)
    return paths, whole
