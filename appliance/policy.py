"""The policy document: what one tenant asks of an engine."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from appliance.conditions import Comparison, Condition, Scope, parse
from appliance.constraints import comparisons, constraint_faults, contradictions
from appliance.document import Document, parse_document
from appliance.errors import Fault, Faulty, InvalidDocument, KeyPath
from appliance.fields import DEFINITION, quantity, sentence_error, written_as
from appliance.quantities import Dimension
from appliance.topics import tenant_fault

MAX_CHARACTERS = 65_536
"""How long a policy may be. Longer documents keep the frames of all tenants waiting."""

MAX_PARTS = 2_000
"""Keys, values, mappings and lists of a policy: that it has many makes it slow, too."""


def _condition(scope: Scope) -> PlainValidator:
    def read(value: object) -> Condition:
        try:
            return parse(value, scope)
        except Faulty as error:
            raise _carrying(error.faults) from error

    return PlainValidator(read, json_schema_input_type=written_as("TenantCondition"))


def _constraint(value: object) -> Condition:
    try:
        condition = parse(value, Scope.TENANT)
    except Faulty as error:
        raise _carrying(error.faults) from error
    faults = constraint_faults(condition)
    if faults:
        raise _carrying(faults)
    return condition


def parse_exit_when(value: object) -> Condition | tuple[Condition, ...]:
    """One condition for every exit, or one per exit from a list. Raises Faulty."""
    if not isinstance(value, list):
        return parse(value)
    if not value:
        raise Faulty([Fault(path=(), message="the list is empty: write one condition per exit")])
    faults: list[Fault] = []
    conditions: list[Condition] = []
    for index, item in enumerate(value):
        try:
            conditions.append(parse(item))
        except Faulty as error:
            faults += [Fault(path=(index, *f.path), message=f.message) for f in error.faults]
    if faults:
        raise Faulty(faults)
    return tuple(conditions)


def _exit_when(value: object) -> Condition | tuple[Condition, ...]:
    try:
        return parse_exit_when(value)
    except Faulty as error:
        raise _carrying(error.faults) from error


def _carrying(faults: Sequence[Fault]) -> PydanticCustomError:
    # Pydantic gives a value one error; the faults inside it travel in the error's context.
    return PydanticCustomError("condition", "faulty condition", {"faults": tuple(faults)})


def _tenant_name(name: str) -> str:
    fault = tenant_fault(name)
    if fault is not None:
        raise sentence_error(f"no tenant's name: {fault}")
    return name


Seconds = Annotated[float, quantity(Dimension.TIME), Field(gt=0)]
Joules = Annotated[float, quantity(Dimension.ENERGY), Field(gt=0)]
Fraction = Annotated[float, quantity(Dimension.RATIO)]
ExitWhen = Annotated[
    Condition | tuple[Condition, ...],
    PlainValidator(_exit_when, json_schema_input_type=written_as("ExitWhen")),
]
TenantCondition = Annotated[Condition, _condition(Scope.TENANT)]
Constraint = Annotated[
    Condition, PlainValidator(_constraint, json_schema_input_type=written_as("Constraint"))
]
TenantName = Annotated[str, AfterValidator(_tenant_name), WithJsonSchema({DEFINITION: "Tenant"})]
WholeNumber = Annotated[int, Field(strict=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Bounds(_Section):
    """What a task may cost at most, and how accurate its exit must be at least."""

    response_time: Seconds | None = None
    """From a frame's arrival at the appliance to its answer, at most."""
    energy: Joules | None = None
    """What an answer may have cost, at most."""
    accuracy: Fraction | None = None
    """A floor on the exit's profiled accuracy."""
    agreement: Annotated[Fraction, Field(ge=0.01)] | None = None
    """How often answers are those that the last exit would give, at least."""


class Mode(_Section):
    """A named alternative set of bounds and conditions."""

    bounds: Bounds = Bounds()
    """In the place of the policy's."""
    exit_when: ExitWhen | None = None
    """In the place of the policy's."""


class Rule(_Section):
    """When to use a mode, and how long to stay in it at least."""

    use: Name
    """A name under `modes`."""
    when: TenantCondition
    """Asked twice a second; the first rule that holds decides."""
    hold: Seconds | None = None
    """How long the mode stays at least; five seconds where nothing is said."""


class Budget(_Section):
    """Joules per period, and what happens when they are spent."""

    energy: Joules
    """What may be spent in a period."""
    per: Seconds
    """The period, which begins when the budget is first put in force."""
    exhausted: Literal["degrade", "reject"] = "degrade"
    """What comes when it is spent: answers of first exits only, or rejections with code 429."""
    pace: StrictBool = False
    """Whether what is left is spread over what is left of the period."""


class Queue(_Section):
    """How many requests may wait, and who goes when one more comes."""

    limit: WholeNumber = Field(default=32, ge=1, le=100_000)
    """How many requests may wait."""
    full: Literal["drop-oldest", "reject"] = "drop-oldest"
    """Who is rejected with code 429 when one more comes: the oldest, or that one."""


class Limits(_Section):
    """How fast requests and their bytes may come, and how many seconds' worth at once."""

    rate: Annotated[float, quantity(Dimension.RATE), Field(gt=0)] | None = None
    """How many requests a second are let in."""
    bytes: Annotated[float, quantity(Dimension.BYTE_RATE), Field(gt=0)] | None = None
    """How many bytes of frames a second are let in."""
    burst: Annotated[float, quantity(Dimension.TIME), Field(gt=0, le=3600)] = 1.0
    """How much time's worth may come at once after a pause."""


class Goal(_Section):
    """What to maximise, and the conditions on the tenant that must hold meanwhile."""

    maximize: Literal["accuracy"]
    """Of what there shall be as much as the constraints allow."""
    subject_to: list[Constraint] = Field(min_length=1)
    """Comparisons of metrics of the tenant that all have to hold meanwhile."""

    @field_validator("subject_to")
    @classmethod
    def _together(cls, subject_to: list[Condition]) -> list[Condition]:
        faults = contradictions(subject_to)
        if faults:
            raise _carrying(faults)
        return subject_to

    @property
    def constraints(self) -> tuple[Comparison, ...]:
        """The comparisons that all have to hold."""
        return tuple(found for condition in self.subject_to for found in comparisons(condition))


class Policy(_Section):
    """One tenant's versioned document."""

    tenant: TenantName
    """Whose it is, as in the topic that it is pushed to."""
    version: WholeNumber = Field(ge=1, le=2**53)
    """Above that of the policy in force, else it is refused with code 409; the same document
    again changes nothing."""
    engine: Name
    """Who answers: a folder among the appliance's engines."""
    bounds: Bounds = Bounds()
    """What a request may cost at most, and how accurate its exit must be at least."""
    exit_when: ExitWhen | None = None
    """When a request stops, for every exit or a list with one per exit."""
    modes: dict[str, Mode] = Field(default_factory=dict)
    """Other bounds and conditions, by name."""
    adapt: list[Rule] = Field(default_factory=list)
    """When which mode is in force."""
    budget: Budget | None = None
    """Joules per period, and what happens when they are spent."""
    goal: Goal | None = None
    """What to maximise, and what has to hold meanwhile."""
    queue: Queue = Queue()
    """How many requests may wait, and who goes when one more comes."""
    limits: Limits = Limits()
    """How fast requests and their bytes may come."""
    priority: WholeNumber = Field(default=0, ge=-100, le=100)
    """A higher one's stages run first."""
    weight: Annotated[float, Field(strict=True, gt=0, le=1000)] = 1.0
    """This tenant's share of the device's time and of its budget, beside the others'."""

    @field_validator("adapt")
    @classmethod
    def _one_mode_each(cls, rules: list[Rule]) -> list[Rule]:
        faults = _rules_never_asked(rules)
        if faults:
            raise _carrying(faults)
        return rules


def _rules_never_asked(rules: list[Rule]) -> list[Fault]:
    """Rules whose condition a rule before them has, too, but for another mode."""
    faults = []
    for index, rule in enumerate(rules):
        first = next(number for number, other in enumerate(rules) if other.when == rule.when)
        if rules[first].use != rule.use:
            message = (
                f"adapt[{first}] uses `{rules[first].use}` under the same condition, and goes"
                f" before: `{rule.use}` would never be used"
            )
            faults.append(Fault(path=(index, "when"), message=message))
    return faults


def parse_policy(text: str | bytes, *, tenant: str | None = None) -> Policy:
    """The policy in a YAML or JSON text; where `tenant` is given, it must be that tenant's.

    Raises InvalidDocument with everything that is wrong in it, each problem with its place.
    """
    return read_policy(parse_policy_document(text), tenant=tenant)


def parse_policy_document(text: str | bytes) -> Document:
    """The document in the text of a policy. Raises InvalidDocument."""
    return parse_document(text, max_characters=MAX_CHARACTERS, max_parts=MAX_PARTS)


def tenant_of(text: str | bytes) -> str:
    """The tenant that a policy names. Raises InvalidDocument where it names none."""
    document = parse_policy_document(text)
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("tenant"), str):
        fault = Fault(path=("tenant",), message="`tenant` is missing")
        raise InvalidDocument(document.locate([fault]))
    return str(value["tenant"])


def read_policy(document: Document, *, tenant: str | None = None) -> Policy:
    """The policy in a document that was parsed before. Raises InvalidDocument."""
    if not isinstance(document.value, dict):
        fault = Fault(path=(), message="a policy is a mapping with tenant, version and engine")
        raise InvalidDocument(document.locate([fault]))
    value = document.value if tenant is None else {"tenant": tenant, **document.value}
    faults: list[Fault] = []
    if tenant is not None and value["tenant"] != tenant:
        message = f"this is the policy of {value['tenant']!r}, pushed to the topic of {tenant!r}"
        faults.append(Fault(path=("tenant",), message=message))
    faults += _unknown_modes(value)
    try:
        policy = Policy.model_validate(value)
    except ValidationError as error:
        for details in error.errors():
            faults += _faults(details)
    if faults:
        raise InvalidDocument(document.locate(faults))
    return policy


def _unknown_modes(value: dict[str, Any]) -> list[Fault]:
    """Rules that use a mode which is not there; asked before the rest is known to be valid."""
    modes, rules = value.get("modes") or {}, value.get("adapt") or []
    if not isinstance(modes, dict) or not isinstance(rules, list):
        return []
    known = f"modes here: {', '.join(map(str, modes))}" if modes else "there is no `modes` section"
    return [
        Fault(path=("adapt", index, "use"), message=f"no mode `{rule['use']}`; {known}")
        for index, rule in enumerate(rules)
        if isinstance(rule, dict) and isinstance(rule.get("use"), str) and rule["use"] not in modes
    ]


def _faults(details: ErrorDetails) -> list[Fault]:
    path: KeyPath = details["loc"]
    context = details.get("ctx", {})
    if details["type"] == "condition":
        return [Fault(path=(*path, *f.path), message=f.message) for f in context["faults"]]
    name = path[-1] if path else ""
    if details["type"] == "missing":
        return [Fault(path=path, message=f"`{name}` is missing")]
    if details["type"] == "extra_forbidden":
        return [Fault(path=path, message=f"there is no field `{name}`{_hint(str(name), path)}")]
    said = details["msg"]
    if details["type"] in {"dict_type", "model_type"}:
        said = "this should be a mapping, of names to values"
    said = said.replace("Input should", "this should")
    return [Fault(path=path, message=f"{name}: {said}" if name else said)]


def _hint(name: str, path: KeyPath) -> str:
    sections: dict[str, type[BaseModel]] = {
        "bounds": Bounds, "modes": Mode, "adapt": Rule, "budget": Budget, "queue": Queue,
        "limits": Limits, "goal": Goal,
    }  # fmt: skip
    parents = [part for part in path[:-1] if part in sections]
    section = sections[str(parents[-1])] if parents else Policy
    close = difflib.get_close_matches(name, section.model_fields, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; fields here: {', '.join(section.model_fields)}"
