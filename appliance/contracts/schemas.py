"""JSON Schemas of the documents and messages, with what the models' docstrings say of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from appliance.command import Command
from appliance.contracts.docstrings import attribute_docstrings
from appliance.contracts.language import Schema, definitions, sign_from
from appliance.energy import EnergySource
from appliance.errors import Code
from appliance.fields import DEFINITION
from appliance.manifest import Manifest
from appliance.messages import PolicyState, Rejection, Result
from appliance.plan import StoppedBy
from appliance.policy import Policy
from appliance.settings import Settings
from appliance.telemetry import ApplianceTelemetry, TenantTelemetry

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_KEYWORDS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
}
"""Pydantic's names for limits that it does not know to be those of a number."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document, as it is read here (`validation`) or as it is written (`serialization`)."""

    model: type
    mode: Literal["validation", "serialization"]
    title: str


DOCUMENTS: Mapping[str, Document] = {
    "policy": Document(Policy, "validation", "A tenant's policy"),
    "engine": Document(Manifest, "validation", "An engine's manifest, engine.yaml"),
    "settings": Document(Settings, "validation", "Settings of an appliance, delen.yaml"),
    "command": Document(Command, "validation", "A command to an appliance"),
    "result": Document(Result, "serialization", "A result"),
    "rejection": Document(Rejection, "serialization", "A rejection"),
    "policy-state": Document(PolicyState, "serialization", "What is in force for a tenant"),
    "tenant-telemetry": Document(TenantTelemetry, "serialization", "Telemetry of a tenant"),
    "appliance-telemetry": Document(
        ApplianceTelemetry, "serialization", "Telemetry of an appliance"
    ),
}

_CLOSED: Mapping[tuple[type, str], Schema] = {
    (Result, "stopped_by"): {"enum": [reason.value for reason in StoppedBy]},
    (Result, "energy_source"): {"enum": [source.value for source in EnergySource]},
    (Rejection, "code"): {"enum": [code.value for code in Code]},
    (Rejection, "reason"): {"enum": [code.reason for code in Code]},
}
"""What a message's texts and numbers may be, which stands on a higher floor than the messages."""


class _Described(GenerateJsonSchema):
    """Takes descriptions from docstrings; a message always holds all of its fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: FBT001 - the signature is pydantic's
    ) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        return _described(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> Schema:
        return _described(super().dataclass_schema(schema), schema["cls"])


def schema_of(name: str) -> Schema:
    """The JSON Schema of one of DOCUMENTS, self-contained."""
    document = DOCUMENTS[name]
    schema = TypeAdapter(document.model).json_schema(
        mode=document.mode, schema_generator=_Described
    )
    body = with_definitions(schema, schema.setdefault("$defs", {}), "#/$defs/{}".format)
    body.pop("title", None)
    parts = {key: body.pop(key) for key in ("$defs",) if body.get(key)}
    body.pop("$defs", None)
    head = {"$schema": DIALECT, "$id": f"urn:delen:v1:{name}", "title": document.title}
    return {**head, **body, **parts}


def components(names: Iterable[str]) -> dict[str, Schema]:
    """The schemas of some documents and of their parts, in one table of an AsyncAPI document."""
    documents = {name: DOCUMENTS[name] for name in names}
    inputs = [(name, kept.mode, TypeAdapter[Any](kept.model)) for name, kept in documents.items()]
    _, table = TypeAdapter.json_schemas(
        inputs, ref_template=COMPONENT.format("{model}"), schema_generator=_Described
    )
    schemas: dict[str, Schema] = table["$defs"]
    with_definitions(schemas, schemas, COMPONENT.format)
    wanted = [document.model.__name__ for document in documents.values()]
    used: dict[str, Schema] = {}
    while wanted:
        name = wanted.pop()
        if name not in used:
            used[name] = schemas[name]
            text = json.dumps(schemas[name])
            wanted += [other for other in schemas if f'"{COMPONENT.format(other)}"' in text]
    return dict(sorted(used.items()))


COMPONENT = "#/components/schemas/{}"


def with_definitions(schema: Any, table: dict[str, Schema], ref: Callable[[str], str]) -> Any:
    """Puts references where fields name a definition, and the definitions into the table."""
    known = definitions(ref)
    wanted: list[str] = []
    _resolve(schema, wanted, ref)
    while wanted:
        name = wanted.pop()
        if name not in table:
            table[name] = known[name]
            wanted += [other for other in known if f'"{ref(other)}"' in json.dumps(known[name])]
    return schema


def _resolve(node: Any, wanted: list[str], ref: Callable[[str], str]) -> None:
    if isinstance(node, list):
        for item in node:
            _resolve(item, wanted, ref)
    elif isinstance(node, dict):
        if isinstance(node.get("default"), dict):
            # What a section is when it is left out, its own fields say.
            del node["default"]
        name = node.pop(DEFINITION, None)
        if name is not None:
            limits = {_KEYWORDS[key]: node.pop(key) for key in _KEYWORDS if key in node}
            # A limit beside it holds for numbers, and says nothing of `-1s`.
            name = sign_from(limits).value + name
            wanted.append(name)
            # Beside a `$ref`, drafts before 2019-09 see nothing.
            node |= {"allOf": [{"$ref": ref(name)}], **limits} if limits else {"$ref": ref(name)}
        for value in list(node.values()):
            _resolve(value, wanted, ref)


def _described(schema: Schema, model: type) -> Schema:
    schema["title"] = model.__name__.lstrip("_")
    properties = schema.get("properties", {})
    for name, sentence in attribute_docstrings(model).items():
        if name in properties:
            properties[name]["description"] = sentence
    for (owner, name), closed in _CLOSED.items():
        if owner is model:
            properties[name] |= closed
    return schema
