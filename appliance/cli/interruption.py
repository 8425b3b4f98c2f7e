"""Being told to stop: Ctrl-C, SIGTERM and a closed terminal, answered alike."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_do(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Answers them alike inside the block, so that each of them ends the children.

    With Python's own handler for Ctrl-C, that is by KeyboardInterrupt.
    """
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
