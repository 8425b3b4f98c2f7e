"""What exists is documented, and what is documented exists."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import typer
from pydantic_core import PydanticUndefined

from appliance import manifest
from appliance.cli.main import command_line
from appliance.client import Client
from appliance.conditions import DIMENSIONS
from appliance.errors import Code
from appliance.feasibility import conflicts, exits_of
from appliance.plan import StoppedBy, compile_plan
from appliance.policy import Bounds, Goal, Limits, Policy, Queue, parse_policy
from appliance.settings import Settings
from appliance.topics import Topics

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_every_setting_is_documented_with_its_name() -> None:
    documented = set(re.findall(r"`DELEN_(\w+)`", (DOCS / "settings.md").read_text()))

    assert documented == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize(
    ("name", "told"),
    re.findall(r"^\| `DELEN_(\w+)` \| (.*?) \|", (DOCS / "settings.md").read_text(), re.MULTILINE),
)
def test_the_default_of_a_setting_is_as_documented(name: str, told: str) -> None:
    field = Settings.model_fields[name.lower()]

    if value := re.fullmatch("`(.*)`", told):
        settings = Settings(**{name.lower(): value[1]})  # type: ignore[arg-type]
        assert getattr(settings, name.lower()) == field.default
    else:
        assert field.default in (None, PydanticUndefined), told


def test_every_command_is_documented_and_has_help() -> None:
    text = (DOCS / "operator.md").read_text()
    group = typer.main.get_command(command_line())

    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        assert re.search(rf"`(delen )?{name}\b", text), name


def test_every_topic_is_documented() -> None:
    text = (DOCS / "mqtt.md").read_text()
    topics = Topics("p")

    for topic in (
        topics.request("{tenant}", "{stream}"),
        topics.result("{tenant}", "{stream}"),
        topics.policy_set("{tenant}"),
        topics.policy_state("{tenant}", "{appliance}"),
        topics.telemetry("{tenant}", "{appliance}"),
        topics.appliance_status("{id}"),
        topics.appliance_telemetry("{id}"),
        topics.appliance_command("{id}"),
    ):
        assert f"`{topic.removeprefix('p/')}`" in text, topic


def test_every_parameter_and_every_method_of_the_client_is_documented() -> None:
    text = (DOCS / "client.md").read_text()
    parameters = set(inspect.signature(Client).parameters) - {"broker"}
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"open"}

    for name in parameters:
        assert f"| `{name}` |" in text, name
    for name in methods:
        assert re.search(rf"`{name}\(", text), name


def test_every_code_and_every_reason_to_stop_is_documented() -> None:
    text = (DOCS / "mqtt.md").read_text()

    for code in Code:
        assert f"| {code.value} | {code.reason} |" in text, code
    for reason in StoppedBy:
        assert f"`{reason.value}`" in text, reason


def test_every_metric_and_every_field_is_documented() -> None:
    text = (DOCS / "policies.md").read_text()
    fields = [
        *Policy.model_fields,
        *(f"bounds.{name}" for name in Bounds.model_fields),
        *(f"queue.{name}" for name in Queue.model_fields),
        *(f"goal.{name}" for name in Goal.model_fields),
        *(f"limits.{name}" for name in Limits.model_fields),
    ]

    for name in DIMENSIONS:
        assert f"`{name}`" in text, name
    for name in set(fields) - {"bounds", "queue"}:
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "policies.md"])
def test_every_policy_in_the_docs_is_valid(page: Path) -> None:
    examples = re.findall(r"```yaml[^\n]*\n(tenant: .*?)```", page.read_text(), re.DOTALL)

    assert examples
    for example in examples:
        parse_policy(example)


@pytest.mark.parametrize("path", sorted((ROOT / "conditions").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_policy_to_start_from_is_valid(path: Path) -> None:
    policy = parse_policy(path.read_bytes())

    assert policy.tenant


STRATEGIES = ROOT / "conditions" / "strategies"


@pytest.mark.parametrize("path", sorted(STRATEGIES.glob("*")), ids=lambda p: p.stem)
def test_every_strategy_fits_the_digits_engine_and_explains_itself(path: Path) -> None:
    text = path.read_text()
    plan = compile_plan(parse_policy(text), manifest.load(ROOT / "engines" / "digits"))

    exits = exits_of(plan, [stage.latency[1].p95_s for stage in plan.engine.stages])

    assert text.startswith("# ")
    assert plan.policy.tenant == path.stem
    assert conflicts(plan, exits) == []
    assert f"`{path.name}`" in (ROOT / "conditions" / "README.md").read_text()
