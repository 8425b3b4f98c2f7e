"""Pydantic field types for quantities, so that documents and settings read them alike."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from appliance.quantities import Dimension, QuantityError, parse_quantity

DEFINITION = "x-definition"
"""Stands in a JSON Schema for a definition of that name, which `contracts` puts in its place."""


def written_as(definition: str) -> Any:
    """The type that a field is written as in a document, by the name of its JSON Schema."""
    return Annotated[Any, WithJsonSchema({DEFINITION: definition})]


def quantity(dimension: Dimension) -> BeforeValidator:
    """A validator that reads `40ms`, `8MB` or a bare SI number into an SI float."""

    def read(value: object) -> float:
        try:
            return parse_quantity(value, dimension)
        except QuantityError as error:
            raise sentence_error(str(error)) from error

    return BeforeValidator(read, json_schema_input_type=written_as(dimension.name.title()))


def sentence_error(sentence: str) -> PydanticCustomError:
    """An error that pydantic passes on word for word."""
    return PydanticCustomError("sentence", "{sentence}", {"sentence": sentence})
