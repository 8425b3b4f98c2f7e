"""The doubles have what the stubs declare, and the stubs what the real libraries declare."""

from __future__ import annotations

import inspect
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest

from tests.doubles.board import Board
from tests.doubles.pycuda_double import driver_double
from tests.doubles.signatures import PYCUDA_DRIVER, TENSORRT, declared
from tests.doubles.tensorrt_double import tensorrt_double

NOT_IN_THE_CLASS = {"IBuilderConfig.int8_calibrator", "Dims.__iter__"}
"""What an instance has, or does by other means."""


@pytest.mark.parametrize(
    ("stub", "double"),
    [(TENSORRT, tensorrt_double(Board())), (PYCUDA_DRIVER, driver_double(Board()))],
    ids=["tensorrt", "pycuda.driver"],
)
def test_a_double_has_the_parameters_that_the_stubs_declare(stub: Path, double: ModuleType) -> None:
    for name, parameters in declared(stub).items():
        if name in NOT_IN_THE_CLASS:
            continue
        value = attrgetter(name)(double)
        if parameters is not None:
            found = [p for p in inspect.signature(value).parameters if p != "self"]
            assert tuple(found) == parameters, name


def test_tensorrt_11_lacks_what_the_builder_must_do_without() -> None:
    double = tensorrt_double(Board(), "11.4.0")

    assert not hasattr(double, "IInt8EntropyCalibrator2")
    assert not hasattr(double.BuilderFlag, "FP16")
    assert not hasattr(double.IBuilderConfig, "set_calibration_profile")
