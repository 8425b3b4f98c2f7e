"""What a fleet manager tells the appliance itself, apart from tenants' policies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from appliance.device_budget import DeviceBudget, parse_device_budget
from appliance.document import parse_document
from appliance.errors import Fault, InvalidDocument
from appliance.fields import sentence_error
from appliance.quantities import QuantityError


def _device_budget(value: object) -> DeviceBudget | None:
    try:
        return None if value is None else parse_device_budget(value)
    except QuantityError as error:
        raise sentence_error(str(error)) from error


class Command(BaseModel):
    """`{"device_budget": "2kJ per 1h"}`, or null to go back to the setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    device_budget: Annotated[Any, BeforeValidator(_device_budget)]


def parse_command(payload: bytes) -> Command:
    """The command in a JSON or YAML text. Raises InvalidDocument."""
    document = parse_document(payload)
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
