"""`delen tenant`: who may connect to the broker."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from appliance import passwords
from appliance.settings import read_settings

Name = Annotated[str, typer.Argument(help="the tenant's name, as in its topics and its policy")]


def register(app: typer.Typer) -> None:
    tenant = typer.Typer(
        help="Add, remove and list who may connect to the broker.", no_args_is_help=True
    )
    tenant.command()(add)
    tenant.command()(remove)
    tenant.command("list")(list_tenants)
    app.add_typer(tenant, name="tenant")


def add(name: Name) -> None:
    """Let a tenant connect, and print its password: it is told only this once."""
    print(passwords.add_tenant(read_settings().passwords, name))
    print(f"{name} connects with this password, once the broker has read it.", file=sys.stderr)


def remove(name: Name) -> None:
    """Let a tenant connect no more; the broker ends its connections."""
    passwords.remove_tenant(read_settings().passwords, name)
    print(f"{name} is out. Its policy stays until an empty one is pushed.", file=sys.stderr)


def list_tenants(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, for machines")] = False,
) -> None:
    """Print the tenants that may connect, a line each."""
    names = passwords.tenants(read_settings().passwords)
    print(json.dumps(names) if as_json else "\n".join(names))
