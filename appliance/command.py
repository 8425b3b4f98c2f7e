"""What a fleet manager tells the appliance itself, apart from tenants' policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from typing_extensions import Self

from appliance.device_budget import DeviceBudget, parse_device_budget
from appliance.document import parse_document
from appliance.errors import Fault, InvalidDocument
from appliance.fields import sentence_error, written_as
from appliance.quantities import QuantityError


def _device_budget(value: object) -> DeviceBudget | None:
    try:
        return None if value is None else parse_device_budget(value)
    except QuantityError as error:
        raise sentence_error(str(error)) from error


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _yes(value: object) -> bool:
    if value is not True:
        raise sentence_error("`true` is all that can be said of it: leave it out otherwise")
    return True


MAX_CHARACTERS = 65_536
MAX_PARTS = 2_000
"""Longer commands, or such of more parts, keep the frames of all tenants waiting."""


class Command(BaseModel):
    """What is to be done, one thing or several; what is not said stays as it is.

    `{"device_budget": "2kJ per 1h"}`, or null to go back to the setting; `{"reload": "digits"}` or
    a list; `{"drain": true}`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    device_budget: Annotated[
        Any,
        BeforeValidator(_device_budget, json_schema_input_type=written_as("DeviceBudget") | None),
    ] = None
    """What all tenants together may spend; null goes back to the setting."""
    reload: Annotated[
        tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str | list[str])
    ] = ()
    """Names of engines that are to be opened again as they are on disk now."""
    drain: Annotated[bool, BeforeValidator(_yes, json_schema_input_type=Literal[True])] = False
    """Whether to answer what is in flight and then to end, as on SIGTERM."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise sentence_error("the command says nothing: name device_budget, reload or drain")
        return self

    @property
    def sets_device_budget(self) -> bool:
        return "device_budget" in self.model_fields_set


def parse_command(payload: bytes) -> Command:
    """The command in a JSON or YAML text. Raises InvalidDocument."""
    document = parse_document(payload, max_characters=MAX_CHARACTERS, max_parts=MAX_PARTS)
    try:
        return Command.model_validate(document.value)
    except ValidationError as error:
        faults = [
            Fault(path=details["loc"], message=f"{_name(details['loc'])}{details['msg']}")
            for details in error.errors()
        ]
        raise InvalidDocument(document.locate(faults)) from error


def _name(path: tuple[str | int, ...]) -> str:
    return f"{path[0]}: " if path else ""
