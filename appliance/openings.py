"""Which engines are being opened, noted in a file: what the process did not survive."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from appliance import files
from appliance.engine import Engine
from appliance.errors import EngineError

_log = logging.getLogger(__name__)

MOST_DEATHS = 3
"""How often in a row the process may end while an engine is opened: it may be killed by chance."""

_DEATHS: TypeAdapter[dict[str, tuple[str, int]]] = TypeAdapter(dict[str, tuple[str, int]])


class Openings:
    """Counts for each engine how often an opening of it began and never ended.

    An engine that hangs or breaks the process would do so again after every start, and nobody
    would be served. A file that cannot be read or written counts nothing. One thread uses it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @contextmanager
    def noted(self, engine: Engine) -> Iterator[None]:
        """Notes that an engine is being opened, until that has ended in whichever way.

        Raises EngineError, and nothing is opened, where it has ended the process too often already
        and the engine's files are still the same.
        """
        deaths, stamp = self._read(), _stamp(engine)
        known_stamp, count = deaths.get(engine.name, ("", 0))
        count = count if known_stamp == stamp else 0
        if count >= MOST_DEATHS:
            raise EngineError(
                f"the appliance ended {count} times while the engine {engine.name} was opened:"
                f" it is tried again once a file in {engine.folder} has changed"
            )
        self._write({**deaths, engine.name: (stamp, count + 1)})
        try:
            yield
        finally:
            self._write({name: told for name, told in self._read().items() if name != engine.name})

    def _read(self) -> dict[str, tuple[str, int]]:
        if self._path is None:
            return {}
        try:
            return _DEATHS.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}

    def _write(self, deaths: dict[str, tuple[str, int]]) -> None:
        if self._path is None:
            return
        try:
            files.write(self._path, _DEATHS.dump_json(deaths))
        except OSError as error:
            _log.warning("it cannot be noted which engines are opened: %s", error)


def _stamp(engine: Engine) -> str:
    """What changes when somebody mends an engine's files."""
    try:
        found = [path.stat() for path in sorted(engine.folder.iterdir())]
    except OSError:
        return ""
    return " ".join(f"{file.st_mtime_ns}:{file.st_size}" for file in found)
