"""The tenants file: who may connect to the broker, and as what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from typing_extensions import Self

from appliance.document import parse_document
from appliance.errors import BrokerError, Fault, InvalidDocument
from appliance.fields import sentence_error
from appliance.topics import level_fault, tenant_fault

MAX_CHARACTERS = 4_194_304
"""Room for some 100,000 tenants."""

HOME_ASSISTANT = "home-assistant"
"""The user that Home Assistant connects as, where the roster has it."""

DASHBOARD = "dashboard"
"""The user that the dashboard connects as, where the roster has it."""

_HEADER = "# Who may connect to the broker, and as what. After a change: delen tenant apply\n"


def _level(name: str) -> str:
    fault = level_fault(name) or _file_fault(name)
    if fault is not None:
        raise sentence_error(f"{name!r} can be no name: {fault}")
    return name


def _tenant_name(name: str) -> str:
    fault = tenant_fault(name) or _file_fault(name)
    if fault is not None:
        raise sentence_error(f"{name!r} can be no tenant: {fault}")
    return name


def _file_fault(name: str) -> str | None:
    return "`:` ends a name in the broker's password file" if ":" in name else None


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = _twice(names)
    if twice:
        raise sentence_error(f"{twice} stands here twice")
    return names


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _nothing_said(value: object) -> object:
    return {} if value is None else value


_Level = Annotated[str, AfterValidator(_level)]
_TenantName = Annotated[str, AfterValidator(_tenant_name)]
_Levels = Annotated[tuple[_Level, ...], AfterValidator(_distinct)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sensor(_Section):
    """A user that sends a tenant's requests, and hears nothing."""

    stream: _Level | None = None
    """The only stream it may send; any where it is not said."""


class Tenant(_Section):
    """A tenant's users. Those below it are called `TENANT/NAME`, which no tenant's name can be."""

    user: bool = True
    """Whether there is a user of the tenant's own name, which sends requests and reads results."""
    sensors: dict[_Level, Annotated[Sensor, BeforeValidator(_nothing_said)]] = {}
    applications: _Levels = ()
    """Users that read the tenant's results, states and telemetry, and send nothing."""
    fleet_managers: _Levels = ()
    """Users that push the tenant's policies, and no other's."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all users below it."""
        return (*self.sensors, *self.applications, *self.fleet_managers)

    @model_validator(mode="after")
    def _one_role_each(self) -> Self:
        twice = _twice(self.names)
        if twice:
            raise sentence_error(f"{twice} has two roles: give each user a name of its own")
        return self


class Viewer(_Section):
    """A user that reads every tenant's states and telemetry, and says nothing."""

    results: Annotated[tuple[_TenantName, ...], AfterValidator(_distinct)] = ()
    """The tenants whose results it reads as well."""


class Roster(_Section):
    """Everybody who may connect, besides the users `appliance` and `fleet`, who always may."""

    tenants: dict[_TenantName, Annotated[Tenant, BeforeValidator(_nothing_said)]] = {}
    fleet_managers: _Levels = ()
    """More users such as `fleet`, called `fleet/NAME`."""
    appliances: _Levels = ()
    """Users `appliance/ID`, each of which speaks as the appliance of that id alone."""
    viewers: dict[_Level, Annotated[Viewer, BeforeValidator(_nothing_said)]] = {}
    """Users `viewer/NAME`."""
    home_assistant: _Level | None = None
    """The prefix of its discovery topics: with it appliances may announce themselves there, and it
    may connect as the user `home-assistant`."""
    dashboard: bool = False
    """Whether there is a user `dashboard`, which reads states, telemetry and results of all tenants
    and pushes their policies, and sends no commands."""

    def with_tenant(self, name: str, tenant: Tenant) -> Roster:
        """The same with another tenant, or with a tenant as it is now. Raises BrokerError."""
        value = self.model_dump()
        value["tenants"][name] = tenant.model_dump()
        return roster_of(value)

    def without_tenant(self, name: str) -> Roster:
        """The same without a tenant, and without the viewers' rights to its results."""
        tenants = {other: tenant for other, tenant in self.tenants.items() if other != name}
        viewers = {
            viewer: Viewer(results=tuple(tenant for tenant in rights.results if tenant != name))
            for viewer, rights in self.viewers.items()
        }
        return self.model_copy(update={"tenants": tenants, "viewers": viewers})

    def text(self) -> str:
        """The tenants file that says it."""
        value = self.model_dump(mode="json", exclude_defaults=True)
        return _HEADER + yaml.safe_dump(value, allow_unicode=True, sort_keys=False)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        more = {HOME_ASSISTANT: self.home_assistant is not None, DASHBOARD: self.dashboard}
        for name, is_there in more.items():
            if is_there and name in self.tenants:
                raise sentence_error(f"{name} is a user already: no tenant can be called so")
        for name, viewer in self.viewers.items():
            unknown = sorted(set(viewer.results) - set(self.tenants))
            if unknown:
                raise sentence_error(f"the viewer {name} reads results of {unknown[0]}, no tenant")
        return self


def parse_roster(text: str | bytes) -> Roster:
    """The roster in a tenants file. Raises InvalidDocument with all that is wrong, and where."""
    document = parse_document(text, max_characters=MAX_CHARACTERS)
    try:
        return Roster.model_validate(document.value)
    except ValidationError as error:
        raise InvalidDocument(document.locate([_fault(part) for part in error.errors()])) from error


def roster_of(value: Mapping[str, object]) -> Roster:
    """The roster in what a program put together. Raises BrokerError."""
    try:
        return Roster.model_validate(value)
    except ValidationError as error:
        raise BrokerError("; ".join(_fault(part).message for part in error.errors())) from error


def _fault(details: ErrorDetails) -> Fault:
    path = tuple(part for part in details["loc"] if part != "[key]")
    message = details["msg"]
    if details["type"] == "string_type" and path and isinstance(path[-1], int):
        message = f'{path[-1]} is a number: put it into quotes, "{path[-1]}", where it is a name'
    elif details["type"] == "extra_forbidden":
        message = f"there is no field `{path[-1]}` here"
    return Fault(path=path, message=message)
