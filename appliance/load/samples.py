"""What a load consists of: tenants' frames, and what is to be seen in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from appliance.errors import LoadError
from appliance.frame_files import SUFFIXES, labelled_frames_in

MOST_FRAMES = 2_000
"""More of a folder are not read: all of them are kept in memory while the load lasts."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's bytes, and what is to be seen in it where that is known."""

    payload: bytes
    label: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame that a tenant may send."""

    tenant: str
    frame: Frame


def read_frames(folder: Path) -> tuple[Frame, ...]:
    """The frames in a folder, evenly chosen where there are many.

    Raises LoadError where there are none, or one cannot be read.
    """
    files = labelled_frames_in(folder)
    if not files:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise LoadError(f"no frames in {folder}: put some there ({suffixes}), or name --frames")
    chosen = files[:: -(-len(files) // MOST_FRAMES)]
    try:
        return tuple(Frame(file.path.read_bytes(), file.label) for file in chosen)
    except OSError as error:
        raise LoadError(f"{error.filename} cannot be read: {error.strerror}") from error


def mixed(frames: Mapping[str, Sequence[Frame]]) -> tuple[Sample, ...]:
    """Tenants' frames in turn, equally many of each, so that any choice among them mixes all."""
    most = max(len(of_tenant) for of_tenant in frames.values())
    endless = {tenant: islice(cycle(of_tenant), most) for tenant, of_tenant in frames.items()}
    turns = zip(*endless.values(), strict=True)
    return tuple(
        Sample(tenant, frame) for turn in turns for tenant, frame in zip(endless, turn, strict=True)
    )
