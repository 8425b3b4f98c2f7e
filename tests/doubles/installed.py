"""Puts the doubles in the place of the libraries, for one test."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from tests.doubles.board import Board
from tests.doubles.libcuda_double import LibcudaDouble
from tests.doubles.pycuda_double import driver_double
from tests.doubles.tensorrt_double import tensorrt_double

USERS = (
    "appliance.backends.cuda",
    "appliance.backends.tensorrt",
    "appliance.backends.tensorrt_log",
    "appliance.backends.tensorrt_stage",
    "appliance.modelling.tensorrt_builder",
)
"""The modules that import the libraries: each test imports them anew."""


@contextmanager
def doubles(board: Board, *, version: str = "10.3.0") -> Iterator[Board]:
    """Within, `import tensorrt` and `import pycuda.driver` give the doubles of this board."""
    driver = driver_double(board)
    package = ModuleType("pycuda", "A double of PyCUDA.")
    package.driver = driver  # type: ignore[attr-defined]
    real_library = ctypes.CDLL

    def library(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "libcuda.so.1":
            return LibcudaDouble(board)
        return real_library(name, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        _forget_users()
        patch.setitem(sys.modules, "tensorrt", tensorrt_double(board, version))
        patch.setitem(sys.modules, "pycuda", package)
        patch.setitem(sys.modules, "pycuda.driver", driver)
        patch.setattr(ctypes, "CDLL", library)
        try:
            yield board
        finally:
            _forget_users()


def _forget_users() -> None:
    for name in USERS:
        sys.modules.pop(name, None)
        package, _, module = name.rpartition(".")
        if hasattr(sys.modules.get(package), module):
            delattr(sys.modules[package], module)
