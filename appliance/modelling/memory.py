"""Running out of memory, told as a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from appliance.errors import ModellingError

_SIGNS = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "bad allocation")
"""What torch and ONNX Runtime say of it; their errors have no class of their own."""


@contextmanager
def too_little_memory_explained(sentence: str) -> Iterator[None]:
    """Raises ModellingError with the sentence where what is done inside runs out of memory."""
    try:
        yield
    except MemoryError as error:
        raise ModellingError(sentence) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _SIGNS):
            raise ModellingError(sentence) from error
        raise
