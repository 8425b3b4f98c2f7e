"""ResNet-18, -34 and -50 with an exit after each of their four stages of blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import ResNetConfig, ResNetModel

from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.imagenet import imagenet_input
from appliance.modelling.networks.multi_exit import MultiExitNetwork, pooled_head
from appliance.modelling.networks.pretrained import Published

INPUT: InputSpec = imagenet_input(side=224)

_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "resnet18": {"layer_type": "basic", "depths": (2, 2, 2, 2), "expansion": 1},
    "resnet34": {"layer_type": "basic", "depths": (3, 4, 6, 3), "expansion": 1},
    "resnet50": {"layer_type": "bottleneck", "depths": (3, 4, 6, 3), "expansion": 4},
}
_WIDTHS = (64, 128, 256, 512)


def build(name: str, classes: int) -> tuple[MultiExitNetwork, Published]:
    """The network, and the model with the names of published checkpoints (He et al. 2016)."""
    shape = _SHAPES[name]
    widths = [width * shape["expansion"] for width in _WIDTHS]
    model = ResNetModel(
        ResNetConfig(layer_type=shape["layer_type"], depths=shape["depths"], hidden_sizes=widths)
    )
    first, *others = (stage.layers for stage in model.encoder.stages)
    network = MultiExitNetwork(
        kind=Kind.IMAGE,
        input=INPUT,
        stages=[nn.Sequential(model.embedder, *first), *others],
        heads=[pooled_head((width, 1, 1), classes) for width in widths],
    )
    return network, Published(model=model, prefix="resnet.", rename=_from_torchvision)


def _from_torchvision(name: str) -> str:
    """A tensor's name in torchvision's checkpoints as the one in transformers'; others as is."""
    stem = {"conv1": "embedder.embedder.convolution", "bn1": "embedder.embedder.normalization"}
    module, _, tensor = name.partition(".")
    if module in stem:
        return f"{stem[module]}.{tensor}"
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)", name)
    if found is None:
        return name
    stage, layer, part, number, tensor = found.groups()
    place = f"encoder.stages.{int(stage) - 1}.layers.{layer}"
    if part == "downsample.":
        return f"{place}.shortcut.{('convolution', 'normalization')[int(number)]}.{tensor}"
    kind = "convolution" if part == "conv" else "normalization"
    return f"{place}.layer.{int(number) - 1}.{kind}.{tensor}"
