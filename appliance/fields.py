"""Pydantic field types for quantities, so that documents and settings read them alike."""

from __future__ import annotations

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from appliance.quantities import Dimension, QuantityError, parse_quantity


def quantity(dimension: Dimension) -> BeforeValidator:
    """A validator that reads `40ms`, `8MB` or a bare SI number into an SI float."""

    def read(value: object) -> float:
        try:
            return parse_quantity(value, dimension)
        except QuantityError as error:
            raise sentence_error(str(error)) from error

    return BeforeValidator(read)


def sentence_error(sentence: str) -> PydanticCustomError:
    """An error that pydantic passes on word for word."""
    return PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})
