"""The broker's ACL: what each user may say and hear, made from the roster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.roster import DASHBOARD, HOME_ASSISTANT, Roster, Sensor, Viewer
from appliance.topics import Topics

APPLIANCE, FLEET, VIEWER = "appliance", "fleet", "viewer"
"""Users that are no tenants, and what the names of more of their kind begin with."""

ANY = "+"
BELOW = "/#"
"""What stands behind a topic in a filter for it, and for all below it."""

_HEADER = """\
# Who may say and hear what. Made from the tenants file by `delen tenant`, which writes over it.
# Nobody has a right that does not stand here.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """One user of the broker, with the topic filters that it may read and write."""

    name: str
    role: str
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


def users(roster: Roster, topics: Topics) -> list[User]:
    """Everybody who may connect, by role and in the roster's order."""
    discovery = roster.home_assistant
    found = [_appliance(topics, APPLIANCE, ANY, discovery), _fleet_manager(topics, FLEET)]
    found += [_appliance(topics, f"{APPLIANCE}/{id_}", id_, discovery) for id_ in roster.appliances]
    if discovery is not None:
        found.append(_home_assistant(topics, discovery))
    if roster.dashboard:
        found.append(_dashboard(topics))
    found += [_fleet_manager(topics, f"{FLEET}/{name}") for name in roster.fleet_managers]
    found += [_viewer(topics, f"{VIEWER}/{name}", who) for name, who in roster.viewers.items()]
    for name in roster.tenants:
        found += _tenant_users(topics, name, roster)
    return found


def acl(everybody: Sequence[User]) -> str:
    """The text of Mosquitto's ACL file."""
    return "\n".join([_HEADER, *map(_section, everybody)])


def _section(user: User) -> str:
    lines = [f"user {user.name}"]
    lines += [f"topic read {topic}" for topic in user.reads]
    lines += [f"topic write {topic}" for topic in user.writes]
    return "\n".join([*lines, ""])


def _appliance(topics: Topics, name: str, appliance: str, discovery: str | None) -> User:
    announces = (f"{discovery}/device/+/config",) if discovery is not None else ()
    hears = (f"{discovery}/status",) if discovery is not None else ()
    return User(
        name=name,
        role="appliance",
        reads=(
            topics.every_request(),
            topics.every_policy_set(),
            topics.appliance_command(appliance),
            *hears,
        ),
        writes=(
            topics.result(ANY) + BELOW,
            topics.policy_state(ANY, appliance),
            topics.telemetry(ANY, appliance),
            topics.appliance_status(appliance),
            topics.appliance_telemetry(appliance),
            # For an empty one, which has the broker forget what it retains there.
            topics.every_request(),
            *announces,
        ),
    )


def _home_assistant(topics: Topics, discovery: str) -> User:
    return User(
        name=HOME_ASSISTANT,
        role="home automation",
        reads=(discovery + BELOW, *_everybodys_state(topics)),
        writes=(f"{discovery}/status",),
    )


def _dashboard(topics: Topics) -> User:
    return User(
        name=DASHBOARD,
        role="dashboard",
        reads=(topics.result(ANY) + BELOW, *_everybodys_state(topics)),
        writes=(topics.every_policy_set(),),
    )


def _fleet_manager(topics: Topics, name: str) -> User:
    return User(
        name=name,
        role="fleet manager",
        reads=_everybodys_state(topics),
        writes=(topics.every_policy_set(), topics.appliance_command(ANY)),
    )


def _viewer(topics: Topics, name: str, viewer: Viewer) -> User:
    results = tuple(topics.result(tenant) + BELOW for tenant in viewer.results)
    return User(name=name, role="viewer", reads=(*_everybodys_state(topics), *results))


def _everybodys_state(topics: Topics) -> tuple[str, ...]:
    return (
        *_state(topics, ANY),
        topics.appliance_status(ANY),
        topics.appliance_telemetry(ANY),
    )


def _state(topics: Topics, tenant: str) -> tuple[str, ...]:
    return (topics.policy_state(tenant, ANY), topics.telemetry(tenant, ANY))


def _tenant_users(topics: Topics, tenant: str, roster: Roster) -> Iterator[User]:
    rights = roster.tenants[tenant]
    heard = (topics.result(tenant) + BELOW, *_state(topics, tenant))
    if rights.user:
        sent = (topics.request(tenant) + BELOW,)
        yield User(name=tenant, role="tenant", reads=heard, writes=sent)
    for name, sensor in rights.sensors.items():
        sent = (_requests(topics, tenant, sensor),)
        yield User(name=f"{tenant}/{name}", role="sensor", writes=sent)
    for name in rights.applications:
        yield User(name=f"{tenant}/{name}", role="application", reads=heard)
    for name in rights.fleet_managers:
        yield User(
            name=f"{tenant}/{name}",
            role="tenant's fleet manager",
            reads=_state(topics, tenant),
            writes=(topics.policy_set(tenant),),
        )


def _requests(topics: Topics, tenant: str, sensor: Sensor) -> str:
    if sensor.stream is None:
        return topics.request(tenant) + BELOW
    return topics.request(tenant, sensor.stream)
