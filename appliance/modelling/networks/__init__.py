"""Multi-exit networks by name; only what is asked for is imported, with its torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from appliance.errors import ModellingError

if TYPE_CHECKING:
    from appliance.modelling.networks.multi_exit import MultiExitNetwork

NAMES = ("digits",)
"""Each is a module here, with a function of the same name that takes the number of classes."""


def build(name: str, *, classes: int) -> MultiExitNetwork:
    """A network with fresh weights. Raises ModellingError for a name that is not known."""
    if name not in NAMES:
        raise ModellingError(f"there is no network {name}: choose {' or '.join(NAMES)}")
    module = import_module(f"appliance.modelling.networks.{name}")
    network: MultiExitNetwork = getattr(module, name)(classes)
    return network
