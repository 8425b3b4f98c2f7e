"""`delen tenant`: who may connect to the broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.enrolment import Change, Enrolment
from appliance.errors import BrokerError
from appliance.roster import Sensor, Tenant
from appliance.settings import read_settings
from appliance.topics import Topics

STANDARD_INPUT = "-"

Name = Annotated[str, typer.Argument(help="the tenant's name, as in its topics and its policy")]
User = Annotated[str, typer.Argument(help="a tenant, or one of its users as TENANT/NAME")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for machines")]


def register(app: typer.Typer) -> None:
    tenant = typer.Typer(
        help="Say who may connect to the broker, and as what.", no_args_is_help=True
    )
    for command in (add, remove, renew, apply):
        tenant.command()(command)
    tenant.command("list")(list_tenants)
    app.add_typer(tenant, name="tenant")


def add(
    name: Name,
    sensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=STREAM]", help="a user that only sends, perhaps one stream"),
    ] = None,
    application: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="a user that only reads")
    ] = None,
    fleet_manager: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="a user that pushes its policies")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a tenant connect, and print its password: it is told only this once.

    With options also users called NAME/..., of a new tenant or of one that is there already.
    """
    # Checked together with the rest of the roster.
    tenant = Tenant.model_construct(
        sensors=dict(_sensor(text) for text in sensor or ()),
        applications=tuple(application or ()),
        fleet_managers=tuple(fleet_manager or ()),
    )
    change = _enrolment().add(name, tenant)
    if set(change.passwords) == {name} and not as_json:
        print(change.passwords[name])
    else:
        _print(change, as_json=as_json)
    who = " and ".join(change.passwords)
    print(f"{who} may connect, once the broker has read it.", file=sys.stderr)


def remove(name: User) -> None:
    """Let a tenant, or one of its users, connect no more; the broker ends its connections."""
    _enrolment().remove(name)
    policy = "" if "/" in name else " Its policy stays until an empty one is pushed."
    print(f"{name} is out.{policy}", file=sys.stderr)


def renew(
    name: Annotated[str, typer.Argument(help="any user, as `list --users` shows them")],
) -> None:
    """Give a user another password, and print it; its connections with the old one are ended."""
    print(_enrolment().renew(name).passwords[name])
    print(f"{name} connects with this password, once the broker has read it.", file=sys.stderr)


def apply(
    file: Annotated[
        str | None,
        typer.Argument(help="a tenants file to take over, - for standard input"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make passwords and ACL what the tenants file says; print a line per new user.

    Whoever is known already keeps the password. Without FILE the tenants file in place counts.
    """
    enrolment = _enrolment()
    change = enrolment.apply() if file is None else enrolment.replace(_contents(file))
    _print(change, as_json=as_json)
    for name in change.removed:
        print(f"{name} is out.", file=sys.stderr)


def list_tenants(
    users: Annotated[
        bool, typer.Option("--users", help="all users, each with its role behind a tab")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the tenants, a line each."""
    if users:
        everybody = {user.name: user.role for user in _enrolment().users()}
        lines = [f"{name}\t{role}" for name, role in everybody.items()]
        print(json.dumps(everybody) if as_json else "\n".join(lines))
    else:
        names = sorted(_enrolment().roster().tenants)
        print(json.dumps(names) if as_json else "\n".join(names))


def _enrolment() -> Enrolment:
    settings = read_settings()
    return Enrolment(settings.passwords, Topics(settings.topic_prefix))


def _print(change: Change, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(change.passwords))
    else:
        for name, password in change.passwords.items():
            print(f"{name}\t{password}")


def _sensor(text: str) -> tuple[str, Sensor]:
    name, equals, stream = text.partition("=")
    return name, Sensor.model_construct(stream=stream if equals else None)


def _contents(file: str) -> bytes:
    if file == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise BrokerError(f"the tenants file {file} cannot be read: {error.strerror}") from error
