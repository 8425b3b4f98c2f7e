"""EfficientNet-B0, -B1 and -B2 with three exits, where the resolution shrinks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import nn
from transformers import EfficientNetConfig, EfficientNetModel

from appliance.engine import Kind
from appliance.modelling.networks.imagenet import imagenet_input
from appliance.modelling.networks.multi_exit import MultiExitNetwork, pooled_head
from appliance.modelling.networks.pretrained import Published


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """How a variant is scaled (Tan and Le 2019, table 1), as transformers names it."""

    side: int
    width: float
    depth: float
    head_width: int
    dropout: float
    square_padding: tuple[int, ...]
    """The blocks whose input has an odd side."""


_SCALES: Mapping[str, _Scale] = {
    "efficientnet-b0": _Scale(
        side=224, width=1.0, depth=1.0, head_width=1280, dropout=0.2, square_padding=()
    ),
    "efficientnet-b1": _Scale(
        side=240, width=1.0, depth=1.1, head_width=1280, dropout=0.2, square_padding=(16,)
    ),
    "efficientnet-b2": _Scale(
        side=260, width=1.1, depth=1.2, head_width=1408, dropout=0.3, square_padding=(5, 8, 16)
    ),
}
_GROUPS_OF_STAGE = (3, 2, 2)
"""Block groups a stage: exits after the third and the fifth, and after the head."""


def build(name: str, classes: int) -> tuple[MultiExitNetwork, Published]:
    """The network, and the model with the names of published checkpoints."""
    scale = _SCALES[name]
    model = EfficientNetModel(_config(scale))
    _start_afresh(model)
    groups = _groups(model)
    first, second, third = ([*islice(groups, count)] for count in _GROUPS_OF_STAGE)
    encoder = model.encoder
    top = (encoder.top_conv, encoder.top_bn, encoder.top_activation)
    stages = [
        nn.Sequential(model.embeddings, *_flat(first)),
        nn.Sequential(*_flat(second)),
        nn.Sequential(*_flat(third), *top),
    ]
    widths = [_width(first), _width(second), scale.head_width]
    network = MultiExitNetwork(
        kind=Kind.IMAGE,
        input=imagenet_input(side=scale.side),
        stages=stages,
        heads=[pooled_head((width, 1, 1), classes, dropout=scale.dropout) for width in widths],
    )
    return network, Published(model=model, prefix="efficientnet.")


def _config(scale: _Scale) -> EfficientNetConfig:
    return EfficientNetConfig(
        image_size=scale.side,
        width_coefficient=scale.width,
        depth_coefficient=scale.depth,
        hidden_dim=scale.head_width,
        dropout_rate=scale.dropout,
        depthwise_padding=list(scale.square_padding),
        # Published as 0.99, which counts the other way round in torch; this is torch's own.
        batch_norm_momentum=0.1,
    )


def _groups(model: EfficientNetModel) -> Iterator[list[nn.Module]]:
    """The blocks in their groups: each group begins with a block that adds no shortcut."""
    group: list[nn.Module] = []
    for block in model.encoder.blocks:
        if group and not block.projection.apply_dropout:
            yield group
            group = []
        group.append(block)
    yield group


def _flat(groups: Sequence[Sequence[nn.Module]]) -> list[nn.Module]:
    return [block for group in groups for block in group]


def _width(groups: Sequence[Sequence[nn.Module]]) -> int:
    """The channels that the last of these groups gives."""
    width: int = groups[-1][-1].projection.project_conv.out_channels
    return width


def _start_afresh(model: nn.Module) -> None:
    """First weights that signals pass through; those of transformers are to be loaded over."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
