"""A policy that is being edited: what is wrong with it, what its exits cost, its version."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from appliance.errors import EngineError, Fault, InvalidDocument, Problem
from appliance.feasibility import ExitFeasibility, conflicts, exits_of
from appliance.messages import PolicyState
from appliance.plan import Plan
from appliance.policy import Policy, parse_policy, parse_policy_document
from appliance.workload.engines import Engines

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What was found in a draft."""

    problems: tuple[Problem, ...]
    policy: Policy | None = None
    """None where it has problems."""
    exits: tuple[ExitFeasibility, ...] = ()
    """Nothing where its engine is not here."""
    conflicts: tuple[str, ...] = ()
    without_engine: str | None = None
    """Why there is no engine to check it against."""


def check(text: str, *, tenant: str, engines: Path) -> Checked:
    """Checks a draft as `delen policy check` does, and against its engine where that is here."""
    try:
        parse_policy(text, tenant=tenant)
        policy = parse_policy(text)  # which says, too, where it names no tenant
    except InvalidDocument as error:
        return Checked(problems=error.problems)
    try:
        plan = Engines([engines]).plan_of(text)
    except InvalidDocument as error:
        if all(problem.path == "engine" for problem in error.problems):
            return Checked(problems=(), policy=policy, without_engine=str(error))
        return Checked(problems=error.problems)
    except (EngineError, OSError) as error:
        return Checked(problems=(), policy=policy, without_engine=str(error))
    exits = _exits(plan)
    return Checked(
        problems=(), policy=policy, exits=tuple(exits), conflicts=tuple(conflicts(plan, exits))
    )


def new_draft(state: PolicyState | None, *, tenant: str) -> str:
    """What the editor begins with: the policy in force as the next version, or a first one."""
    if state is not None and state.document is not None and state.version is not None:
        return with_version(_legible(state.document), state.version + 1)
    version = 1 if state is None or state.version is None else state.version + 1
    engine = state.engine if state is not None and state.engine is not None else "digits"
    lines = (
        f"tenant: {json.dumps(tenant, ensure_ascii=False)}",  # a JSON text is one in YAML, too
        f"version: {version}",
        f"engine: {json.dumps(engine, ensure_ascii=False)}",
        "bounds:",
        "  response_time: 50ms",
        "",
    )
    return "\n".join(lines)


def _legible(text: str) -> str:
    """The text itself, or YAML of it where it is JSON in one line, as programs write it."""
    if not text.startswith("{") or "\n" in text.strip():
        return text
    try:
        value = parse_policy_document(text).value
    except InvalidDocument:
        return text
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def with_version(text: str, version: int) -> str:
    """The text with another version in it, where it is a document that has one."""
    try:
        document = parse_policy_document(text)
    except InvalidDocument:
        return text
    if not isinstance(document.value, dict) or "version" not in document.value:
        return text
    (place,) = document.locate([Fault(path=("version",), message="")])
    before = "".join(text.splitlines(keepends=True)[: place.line - 1])
    begin = len(before) + place.column - 1
    return text[:begin] + _NUMBER.sub(str(version), text[begin:], count=1)


def _exits(plan: Plan) -> list[ExitFeasibility]:
    # Response times as `delen policy explain` gives them: the profile's, for a request alone.
    times = [stage.latency[1].p95_s if 1 in stage.latency else None for stage in plan.engine.stages]
    return exits_of(plan, times)
