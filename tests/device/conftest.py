"""Skips what is marked `tensorrt` where there is no GPU with TensorRT."""

from __future__ import annotations

import pytest

from appliance.backends import choice
from appliance.errors import EngineError


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("tensorrt")]
    if not marked:
        return
    try:
        choice.here()
    except EngineError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=f"no GPU with TensorRT: {error}"))
