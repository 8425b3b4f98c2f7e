"""The engines that policies name, and plans for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from appliance import manifest
from appliance.document import parse_document
from appliance.engine import Engine
from appliance.errors import Fault, Faulty, InvalidDocument
from appliance.plan import Plan, compile_plan
from appliance.policy import read_policy


class Engines:
    """Engines by name, each read once when it is first asked for.

    A folder is an engine itself, known by its name and its folder's, or holds engines. Raises
    EngineError for one that is neither.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders: dict[str, Path] = {}
        self._loaded: dict[Path, Engine] = {}
        for folder in folders:
            found = manifest.find(folder)
            if not found:
                engine = self._loaded[folder] = manifest.load(folder)
                found = {folder.resolve().name: folder, engine.name: folder}
            self._folders.update(found)

    def plan_of(self, text: str | bytes) -> Plan:
        """The plan of the policy in a text. Raises InvalidDocument, EngineError."""
        document = parse_document(text)
        policy = read_policy(document)
        if policy.engine not in self._folders:
            known = ", ".join(sorted(self._folders))
            message = f"no engine `{policy.engine}`; engines here: {known}"
            raise InvalidDocument(document.locate([Fault(path=("engine",), message=message)]))
        try:
            return compile_plan(policy, self._load(self._folders[policy.engine]))
        except Faulty as error:
            raise InvalidDocument(document.locate(error.faults)) from error

    def _load(self, folder: Path) -> Engine:
        engine = self._loaded.get(folder)
        if engine is None:
            engine = self._loaded[folder] = manifest.load(folder)
        return engine
