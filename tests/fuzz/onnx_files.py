"""The reader of the locations of weights in an ONNX file."""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from appliance.external_weights import locations
from tests.fuzz import flat
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    """Whatever location ONNX's own reader finds among the initializers is found."""
    try:
        found = locations(data)
    except ValueError as error:
        str(error).encode()
        return
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            # What is no UTF-8 is given as bytes.
            value = entry.value if isinstance(entry.value, bytes) else entry.value.encode()
            assert entry.key != "location" or value in found


ONNX_FILES = Target(name="onnx_files", check=check, mutations=flat.FLAT)
