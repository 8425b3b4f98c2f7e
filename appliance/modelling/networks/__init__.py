"""Multi-exit networks by name; only what is asked for is imported, with its torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ModellingError

if TYPE_CHECKING:
    from appliance.modelling.networks.multi_exit import MultiExitNetwork
    from appliance.modelling.networks.pretrained import Published

_MODULES: Mapping[str, str] = {
    "digits": "digits",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "efficientnet-b0": "efficientnet",
    "efficientnet-b1": "efficientnet",
    "efficientnet-b2": "efficientnet",
    "wav2vec2": "wav2vec2",
}
NAMES = tuple(_MODULES)
"""Each is made by the function `build(name, classes)` of a module here."""


def build(name: str, *, classes: int, pretrained: Path | None = None) -> MultiExitNetwork:
    """A network with fresh weights, or a backbone of pretrained ones.

    `name` is one of NAMES, or `FILE.py:FUNCTION` of the user's own. Raises ModellingError for a
    name that is not known, and for weights that are not this network's.
    """
    if name in _MODULES:
        module = import_module(f"appliance.modelling.networks.{_MODULES[name]}")
        network: MultiExitNetwork
        published: Published | None
        network, published = module.build(name, classes)
    elif ".py:" in name:
        network, published = _from_file(name, classes), None
    else:
        raise ModellingError(
            f"there is no network {name}: choose {', '.join(NAMES)},"
            " or name a function of your own as FILE.py:FUNCTION"
        )
    if pretrained is not None:
        weights = import_module("appliance.modelling.networks.pretrained")
        weights.load_backbone(network, published, pretrained)
    return network


def _from_file(name: str, classes: int) -> MultiExitNetwork:
    network: MultiExitNetwork = import_module("appliance.modelling.networks.from_file").build(
        name, classes
    )
    return network
