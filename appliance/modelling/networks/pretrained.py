"""Weights from a local file or folder into the backbone of a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from appliance.errors import ModellingError
from appliance.modelling.networks.multi_exit import MultiExitNetwork

Weights = Mapping[str, Tensor]

_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin", "weights.pth")
_LISTED = 3
"""How many tensors an error names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """How the checkpoints that others publish fit the stages of a network.

    `model` shares its modules with the stages, under the names of transformers. A checkpoint's
    names are stripped of `prefix` and renamed. What begins with one of `fresh` may be missing or
    of another shape; it then starts afresh. What matches `spare` may be in a checkpoint in vain.
    """

    model: nn.Module
    prefix: str
    rename: Callable[[str], str] = str
    fresh: tuple[str, ...] = ()
    spare: re.Pattern[str] | None = None


def load_backbone(network: MultiExitNetwork, published: Published | None, path: Path) -> None:
    """Loads the stages' weights; the heads start afresh.

    `path` is a .safetensors, .bin or .pth file, or a folder with one: a run folder of ours, or a
    checkpoint as transformers saves it; a ResNet's may have torchvision's names. Raises
    ModellingError where a tensor is missing or of another shape, and loads nothing then.
    """
    weights = read_weights(path)
    if any(name.startswith("stages.") for name in weights):
        stages = {n.removeprefix("stages."): t for n, t in weights.items() if n[:7] == "stages."}
        _load(network.stages, stages, Published(model=network.stages, prefix=""), path)
    elif published is None:
        raise ModellingError(
            f"{path} holds no weights of this network: name a folder that `delen train` wrote"
        )
    else:
        named = {
            published.rename(name.removeprefix("module.").removeprefix(published.prefix)): tensor
            for name, tensor in weights.items()
        }
        _load(published.model, named, published, path)


def read_weights(path: Path) -> Weights:
    """The tensors in a file, or in the one that a folder holds, by name. Raises ModellingError.

    Nothing but tensors is unpickled: a checkpoint runs no code.
    """
    file = _file_of(path)
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch fails on other bytes with whatever they come to mean
        reason = " ".join(str(error).split())
        raise ModellingError(f"{file} cannot be read as weights: {reason:.200}") from error
    if isinstance(weights, Mapping) and isinstance(weights.get("state_dict"), Mapping):
        weights = weights["state_dict"]
    if not isinstance(weights, Mapping) or not all(map(torch.is_tensor, weights.values())):
        raise ModellingError(f"{file} holds something else than tensors by name")
    return weights


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    found = [path / name for name in _IN_A_FOLDER if (path / name).is_file()]
    if not found:
        raise ModellingError(
            f"{path} holds no weights: name a .safetensors, .bin or .pth file, or a folder with"
            f" {' or '.join(_IN_A_FOLDER)}"
        )
    return found[0]


def _load(model: nn.Module, weights: Weights, published: Published, path: Path) -> None:
    wanted: dict[str, Tensor] = model.state_dict()
    parts = {name.partition(".")[0] for name in wanted}
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in wanted and tensor.shape == wanted[name].shape
    }
    missing = [
        name
        for name in wanted
        if name not in fitting
        and not name.endswith("num_batches_tracked")
        and not name.startswith(published.fresh)
    ]
    # A part that the network lacks altogether is a head; a layer too many is another network.
    foreign = [
        name
        for name in weights
        if name not in wanted
        and name.partition(".")[0] in parts
        and not name.startswith(published.fresh)
        and not (published.spare and published.spare.fullmatch(name))
    ]
    if missing or foreign:
        raise ModellingError(
            f"{path} holds weights of another architecture: {_complaint(missing, foreign, weights)}"
        )
    model.load_state_dict({**wanted, **fitting})


def _complaint(missing: list[str], foreign: list[str], weights: Weights) -> str:
    complaints = []
    for name in missing[:_LISTED]:
        what = f"has the shape {tuple(weights[name].shape)}" if name in weights else "is missing"
        complaints.append(f"{name} {what}")
    complaints += [f"{name} is not in this network" for name in foreign[:_LISTED]]
    more = len(missing) + len(foreign) - len(complaints)
    return ", ".join(complaints) + (f", and {more} more" if more else "")
