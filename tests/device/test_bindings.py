"""The bindings that are installed have the signatures that the stubs declare. Needs no GPU."""

from __future__ import annotations

import inspect
import re
from operator import attrgetter
from typing import Any

import pytest

from appliance.backends.builds import is_strongly_typed
from tests.doubles.signatures import PYCUDA_DRIVER, TENSORRT, declared

GONE_IN_11 = (
    "BuilderFlag.FP16",
    "BuilderFlag.INT8",
    "IInt8EntropyCalibrator2",
    "IBuilderConfig.int8_calibrator",
    "IBuilderConfig.set_calibration_profile",
)


ITERATES_BY_INDEX = "Dims.__iter__"
"""What type checkers need and the bindings do without: __getitem__ that ends in an IndexError."""


def bound_parameters(function: Any) -> list[list[str]]:
    """The parameters of each overload, by the signatures that a bound function's docstring has."""
    signatures = re.findall(rf"{function.__name__}\((.*)\) -> ", function.__doc__ or "")
    overloads = [re.findall(r"(?:^|, )\*{0,2}(\w+)(?=[:,=]|$)", s) for s in signatures]
    return [[name for name in names if name != "self"] for names in overloads]


def is_called_by(found: list[str], parameters: tuple[str, ...]) -> bool:
    """Whether an overload takes what the stub names; operators name theirs arg0, arg1."""
    pairs = zip(found, parameters, strict=False)
    return len(found) >= len(parameters) and all(
        a == b or re.fullmatch(r"arg\d", a) for a, b in pairs
    )


def test_tensorrts_bindings_have_what_the_stubs_declare() -> None:
    tensorrt: Any = pytest.importorskip("tensorrt", exc_type=ImportError)
    gone = GONE_IN_11 if is_strongly_typed(tensorrt.__version__) else ()
    unbound = (*gone, ITERATES_BY_INDEX)
    expected = {name: found for name, found in declared(TENSORRT).items() if name not in unbound}

    for name, parameters in expected.items():
        if name.startswith(tuple(f"{left}." for left in gone)):
            continue
        value = attrgetter(name)(tensorrt)
        if parameters is None or not value.__doc__:
            continue
        if inspect.isfunction(value):
            assert tuple(inspect.signature(value).parameters) == parameters, name
        else:
            overloads = bound_parameters(value)
            assert any(is_called_by(found, parameters) for found in overloads), (name, overloads)


def test_pycudas_driver_has_what_the_stubs_declare() -> None:
    driver: Any = pytest.importorskip("pycuda.driver", exc_type=ImportError)

    for name in declared(PYCUDA_DRIVER):
        assert attrgetter(name)(driver) is not None, name
