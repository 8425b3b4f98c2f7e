"""The contracts as files, by their names below `docs/`."""

from __future__ import annotations

import json

import yaml

from appliance.contracts.asyncapi import asyncapi
from appliance.contracts.schemas import DOCUMENTS, schema_of

HEAD = "# Made by `delen contracts` from the appliance's models; not to be edited.\n"


def files() -> dict[str, str]:
    """The text of every contract."""
    made = {
        f"schemas/{name}.json": json.dumps(schema_of(name), indent=2, ensure_ascii=False) + "\n"
        for name in DOCUMENTS
    }
    document = yaml.dump(asyncapi(), Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True)
    made["asyncapi.yaml"] = HEAD + document
    return made


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, _data: object) -> bool:
        return True
