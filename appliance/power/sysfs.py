"""Numbers and names that the kernel shows as small files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import MeterError

_LONGEST_BYTES = 64


class NumberFile:
    """A file that is kept open, and says a new number each time that it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        """The number in it. Raises MeterError."""
        with reading_errors(self.path):
            return int(os.pread(self._descriptor, _LONGEST_BYTES, 0))

    def close(self) -> None:
        os.close(self._descriptor)


def read_text(path: Path) -> str:
    """What a file says, without its line end. Raises MeterError."""
    with reading_errors(path):
        return path.read_text(encoding="utf-8", errors="replace").strip()


def read_number(path: Path) -> int:
    """The number in a file that is read once. Raises MeterError."""
    with reading_errors(path):
        return int(path.read_bytes())


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turns what reading a file can raise into a sentence."""
    try:
        yield
    except PermissionError as error:
        raise MeterError(f"{path} may not be read by this user") from error
    except OSError as error:
        raise MeterError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise MeterError(f"{path} holds no number") from error
