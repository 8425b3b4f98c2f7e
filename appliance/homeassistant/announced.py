"""Which topics hold our documents, in a file: they outlive the process, and must not for ever."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from appliance import files

_log = logging.getLogger(__name__)

_TOPICS = TypeAdapter(set[str])


class AnnouncedFile:
    """The topics that documents may lie on. Where it cannot be written the log says so once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complained = False
        self.topics = self._read()

    def add(self, topic: str) -> None:
        """Notes a topic before something is published on it."""
        if topic not in self.topics:
            self.topics.add(topic)
            self._write()

    def remove(self, topic: str) -> None:
        """Notes that nothing lies on a topic any more."""
        if topic in self.topics:
            self.topics.remove(topic)
            self._write()

    def _read(self) -> set[str]:
        try:
            return _TOPICS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return set()
        except (OSError, ValidationError) as error:
            _log.warning("what Home Assistant was told before is not known: %s", error)
            return set()

    def _write(self) -> None:
        try:
            if self.topics:
                files.write(self._path, _TOPICS.dump_json(self.topics))
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not self._complained:
                _log.warning("what Home Assistant is told cannot be noted down: %s", error)
            self._complained = True
