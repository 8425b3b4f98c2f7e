"""wav2vec 2.0 with six transformer layers and an exit after each."""

from __future__ import annotations

import re

from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from appliance.engine import InputSpec, Kind
from appliance.modelling.networks.multi_exit import MultiExitNetwork
from appliance.modelling.networks.pretrained import Published

INPUT = InputSpec(shape=(16_000,), sample_rate_hz=16_000)
"""One second of sound."""

LAYERS = 6
EXTRACTOR_CHANNELS = 128


def build(name: str, classes: int) -> tuple[MultiExitNetwork, Published]:  # noqa: ARG001 - one variant
    """The network, and the model with the names of published checkpoints (Baevski et al. 2020).

    Transformer layers are as wide as those of the base model, whose first six a checkpoint gives;
    its feature extractor is wider than this one, which then starts afresh.
    """
    config = Wav2Vec2Config(
        num_hidden_layers=LAYERS,
        conv_dim=(EXTRACTOR_CHANNELS,) * 7,
        feat_extract_norm="layer",
        # Every layer is a stage that an exit stands on: none is skipped, and nothing masked.
        layerdrop=0.0,
        apply_spec_augment=False,
        attn_implementation="eager",
    )
    model = Wav2Vec2Model(config)
    layers = list(model.encoder.layers)
    first = nn.Sequential(
        _FeatureExtractor(model.feature_extractor),
        _Projection(model.feature_projection),
        _Positions(model.encoder.pos_conv_embed),
        model.encoder.layer_norm,
        model.encoder.dropout,
        layers[0],
    )
    network = MultiExitNetwork(
        kind=Kind.AUDIO,
        input=INPUT,
        stages=[first, *layers[1:]],
        heads=[_head(config, classes) for _ in layers],
    )
    return network, Published(
        model=model,
        prefix="wav2vec2.",
        rename=_parametrized,
        fresh=("feature_extractor.", "feature_projection.", "masked_spec_embed"),
        spare=re.compile(r"encoder\.layers\.\d+\..*"),
    )


def _parametrized(name: str) -> str:
    """The name of a weight that is stored as length and direction, as torch has it now."""
    return name.replace("weight_g", "parametrizations.weight.original0").replace(
        "weight_v", "parametrizations.weight.original1"
    )


class _FeatureExtractor(nn.Module):  # type: ignore[misc]
    """From (N, samples) to (N, steps, channels)."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.conv_layers = extractor.conv_layers

    def forward(self, samples: Tensor) -> Tensor:
        features = samples[:, None]
        for layer in self.conv_layers:
            features = layer(features)
        return features.transpose(1, 2)


class _Projection(nn.Module):  # type: ignore[misc]
    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(features)[0]
        return projected


class _Positions(nn.Module):  # type: ignore[misc]
    """Adds what a convolution over the steps says of their order."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, features: Tensor) -> Tensor:
        return features + self.convolution(features)


class _FirstStep(nn.Module):  # type: ignore[misc]
    """Self-attention has brought the whole sound into every step, so the first one can answer."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, 0]


def _head(config: Wav2Vec2Config, classes: int) -> nn.Sequential:
    return nn.Sequential(
        _FirstStep(), nn.Dropout(config.final_dropout), nn.Linear(config.hidden_size, classes)
    )
