"""NPY: read as it is meant, and nothing unpickled or allocated."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.lib.format as npy_lib_format
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.engine import InputSpec, Kind
from appliance.errors import Code, Rejected
from appliance.frames import decode
from tests.frames.files import GREY, an_npy, an_npy_of, code_of, decodes_or_is_rejected


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 8, 8)])
def test_an_npy_is_the_ready_input_with_or_without_a_batch_axis(shape: tuple[int, ...]) -> None:
    array = np.arange(64, dtype=np.float32).reshape(shape)

    tensor = decode(an_npy(array), "application/x-npy", GREY, Kind.TENSOR)

    assert tensor.shape == (1, 1, 8, 8)
    np.testing.assert_array_equal(tensor.ravel(), np.arange(64))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "u1", "<i8", "?"])
def test_numbers_of_other_types_and_byte_orders_are_converted_by_value(dtype: str) -> None:
    array = np.ones((1, 8, 8), dtype)

    tensor = decode(an_npy(array), None, GREY, Kind.TENSOR)

    assert tensor.dtype == np.float32
    assert tensor.sum() == 64


def test_fortran_order_is_read_as_what_it_stands_for() -> None:
    array = np.asfortranarray(np.arange(64, dtype=np.float32).reshape(1, 8, 8))

    tensor = decode(an_npy(array), None, GREY, Kind.TENSOR)

    np.testing.assert_array_equal(tensor[0], array)
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_malformed(value: float) -> None:
    array = np.zeros((1, 8, 8), np.float32)
    array[0, 3, 3] = value

    assert code_of(an_npy(array)) is Code.MALFORMED


def test_a_number_too_large_for_the_engines_type_is_malformed() -> None:
    assert code_of(an_npy(np.full((1, 8, 8), 1e300))) is Code.MALFORMED


@pytest.mark.parametrize("value", [np.nan, np.inf, 300.0, -1.0, 0.5])
def test_an_input_of_integers_takes_only_what_it_can_hold(value: float) -> None:
    spec = InputSpec(shape=(4,), dtype="uint8")

    assert code_of(an_npy(np.full(4, value)), spec=spec, kind=Kind.TENSOR) is Code.MALFORMED
    assert decode(an_npy(np.full(4, 255.0)), None, spec, Kind.TENSOR).tolist() == [[255] * 4]


@pytest.mark.parametrize("padding", range(4))
def test_a_header_of_any_length_gives_an_aligned_tensor(padding: int) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }" + b" " * padding
    values = np.arange(64, dtype="<f4")

    tensor = decode(an_npy_of(header, values.tobytes()), None, GREY, Kind.TENSOR)

    assert tensor.flags.aligned
    np.testing.assert_array_equal(tensor.ravel(), values)


def test_an_array_that_fits_is_not_copied() -> None:
    payload = bytearray(an_npy(np.zeros((1, 8, 8), np.float32)))

    tensor = decode(payload, None, GREY, Kind.TENSOR)

    assert np.shares_memory(tensor, np.frombuffer(payload, np.uint8))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version: tuple[int, int]) -> None:
    array = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    buffer = io.BytesIO()
    write_array: Any = npy_lib_format.write_array  # untyped in NumPy's last release for 3.10
    write_array(buffer, array, version=version)

    np.testing.assert_array_equal(decode(buffer.getvalue(), None, GREY, Kind.IMAGE)[0], array)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8, 8)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, True, 8, 8)}",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 8, 8)}",
        b"-" * 9000 + b"1",
        b"(" * 9000,
        b"\xff" * 50,
    ],
)
def test_an_odd_header_is_malformed(header: bytes) -> None:
    assert code_of(an_npy_of(header, bytes(256)), spec=GREY) == Code.MALFORMED


def test_a_wrong_shape_is_malformed_and_both_shapes_are_named() -> None:
    with pytest.raises(Rejected, match=r"\(3, 8, 8\).*\(1, 8, 8\)"):
        decode(an_npy(np.zeros((3, 8, 8), np.float32)), None, GREY, Kind.TENSOR)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.zeros((1, 8, 8), [("a", "f4")]),
        np.zeros((1, 8, 8), np.complex64),
        np.zeros((1, 8, 8), "U1"),
        np.zeros((1, 8, 8), "M8[s]"),
    ],
    ids=["objects", "structured", "complex", "text", "dates"],
)
def test_only_plain_numbers_are_accepted_and_nothing_is_unpickled(
    array: NDArray[np.generic],
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)

    assert code_of(buffer.getvalue()) is Code.MALFORMED


def test_a_header_that_asks_for_more_than_there_is_allocates_nothing() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }".ljust(117)

    assert code_of(an_npy_of(header, bytes(8))) is Code.MALFORMED


@settings(max_examples=150, deadline=None)
@given(
    shape=st.lists(st.integers(-1, 2**40), max_size=5).map(tuple),
    descr=st.sampled_from(["<f4", "|O", "<U9", "<f8", "|V8", "nonsense", "<i1024"]),
)
def test_no_npy_header_makes_it_allocate(shape: tuple[int, ...], descr: str) -> None:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape!r}, }}".encode()

    decodes_or_is_rejected(an_npy_of(header, bytes(256)), GREY, Kind.TENSOR)


@settings(max_examples=150, deadline=None)
@given(
    spec_dtype=st.sampled_from(["float32", "float16", "uint8", "int64"]),
    dtype=st.sampled_from(["<f2", "<f4", ">f8", "u1", "<i8", "<u8", "?"]),
    data=st.binary(min_size=32, max_size=32),
)
def test_whatever_bits_an_array_has_it_is_converted_or_rejected(
    spec_dtype: str, dtype: str, data: bytes
) -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': (4,), }}".encode()
    payload = an_npy_of(header, data[: 4 * np.dtype(dtype).itemsize])

    decodes_or_is_rejected(payload, InputSpec(shape=(4,), dtype=spec_dtype), Kind.TENSOR)


def test_a_header_of_blanks_is_refused_before_it_is_read() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }" + b" " * 9000 + b"\\"

    with pytest.raises(Rejected, match="at most 1024"):
        decode(an_npy_of(header, bytes(256)), None, GREY, Kind.TENSOR)
