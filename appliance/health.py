"""Whether the appliance is online, in a file that it keeps writing for others to read."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from typing_extensions import Self

from appliance import files
from appliance.errors import ServiceError

_log = logging.getLogger(__name__)

EVERY_S = 1.0
STALE_S = 10.0
"""Who has not written for so long has died or hangs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How the appliance stands, in a sentence."""

    well: bool
    sentence: str
    at_s: float
    """By the clock that counts from the machine's start, which is the same for all its processes:
    a Jetson's date leaps when it first reaches a time server."""


_HEALTH = TypeAdapter(Health)


class HealthFile:
    """The file of one appliance; it is there only while the `with` block around it runs.

    It may be written from any thread. Without a path nothing is. Where it cannot be written the
    appliance goes on, and the log says so once.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._complained = False
        self._lock = threading.Lock()
        self.latest: Health | None = None
        """What was written last, or would have been; it may be read from any thread."""

    def write(self, health: Health) -> None:
        """Puts this in the place of an older one, whole or not at all."""
        with self._lock:
            if self.latest is not None and health.at_s < self.latest.at_s:
                return
            self.latest = health
            if self._path is None:
                return
            try:
                files.write(self._path, _HEALTH.dump_json(health))
            except OSError as error:
                self._complain(error)

    def __enter__(self) -> Self:
        self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        try:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            _log.warning("DELEN_HEALTH_FILE cannot be written: %s", error)
        self._complained = True


def read_health(path: Path, now_s: float) -> Health:
    """What an appliance last wrote; unwell where it has not for long, or never.

    Raises ServiceError where the file cannot be read.
    """
    try:
        health = _HEALTH.validate_json(path.read_bytes())
    except FileNotFoundError:
        sentence = f"no appliance runs here, or it is still starting: there is no {path}"
        return Health(well=False, sentence=sentence, at_s=now_s)
    except OSError as error:
        raise ServiceError(f"DELEN_HEALTH_FILE cannot be read: {error}") from error
    except ValidationError as error:
        raise ServiceError(f"{path} was written by no appliance: name another file") from error
    return as_of(health, now_s)


def as_of(health: Health | None, now_s: float) -> Health:
    """What was told of an appliance, as it counts now: unwell where that was long ago, or never."""
    if health is None:
        return Health(well=False, sentence="the appliance is still starting", at_s=now_s)
    age_s = now_s - health.at_s
    if not 0 <= age_s <= STALE_S:
        sentence = (
            "the appliance hangs or has died: it last told how it stands"
            f" {age_s:.0f} s ago; restart it"
        )
        return Health(well=False, sentence=sentence, at_s=health.at_s)
    return health
