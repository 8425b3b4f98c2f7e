"""Who is let in by the broker: its tenants file, ACL and passwords, which change together."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.acl import APPLIANCE, FLEET, User, acl, users
from appliance.errors import BrokerError
from appliance.passwords import hashes_of, new_passwords, read_hashes, text_of
from appliance.roster import Roster, Tenant, parse_roster, roster_of
from appliance.topics import Topics

ROSTER_FILE, ACL_FILE = "tenants.yaml", "acl"
"""What lies beside the password file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Who was let in and who no more."""

    passwords: Mapping[str, str]
    """The new users' passwords by name, which are kept nowhere else."""
    removed: tuple[str, ...]


class Enrolment:
    """The three files beside each other that the broker and the operator share.

    The broker reads them again whenever they change; sessions and passwords stay. Every method
    raises BrokerError where they cannot be read or written, and InvalidDocument where the tenants
    file is wrong; nothing is changed then.
    """

    def __init__(self, passwords: Path, topics: Topics) -> None:
        self._passwords = passwords
        self._roster = passwords.with_name(ROSTER_FILE)
        self._acl = passwords.with_name(ACL_FILE)
        self._topics = topics

    def roster(self) -> Roster:
        """What the tenants file says."""
        try:
            return parse_roster(self._roster.read_bytes())
        except FileNotFoundError:
            return _roster_before(read_hashes(self._passwords))
        except OSError as error:
            raise BrokerError(f"the tenants file cannot be read: {error}") from error

    def users(self) -> list[User]:
        """Everybody who may connect, with what they may do."""
        return users(self.roster(), self._topics)

    def apply(self) -> Change:
        """Makes ACL and passwords what the tenants file says."""
        with self._alone():
            return self._bring_about(self.roster())

    def replace(self, text: bytes) -> Change:
        """Makes a text the tenants file, and all else what it says."""
        with self._alone():
            roster = parse_roster(text)
            self._write(self._roster, text.decode("utf-8-sig"))
            return self._bring_about(roster)

    def add(self, name: str, tenant: Tenant) -> Change:
        """Lets a tenant in, or more users of one that is there already."""
        with self._alone():
            roster = self.roster()
            present = roster.tenants.get(name)
            if present is not None:
                tenant = _joined(name, present, tenant)
            return self._become(roster.with_tenant(name, tenant))

    def remove(self, name: str) -> Change:
        """Lets a tenant with all its users, or the one user `TENANT/NAME`, in no more."""
        with self._alone():
            roster = self.roster()
            tenant, slash, below = name.partition("/")
            present = roster.tenants.get(tenant)
            if present is None or (slash and below not in present.names):
                others = ", ".join(sorted(roster.tenants)) or "none"
                raise BrokerError(f"there is no tenant {name}; there are: {others}")
            if slash:
                return self._become(roster.with_tenant(tenant, _without(present, below)))
            return self._become(roster.without_tenant(tenant))

    def renew(self, name: str) -> Change:
        """Gives a user another password; what is connected with the old one is cut off."""
        with self._alone():
            hashes = read_hashes(self._passwords)
            if name not in hashes:
                raise BrokerError(f"there is no user {name}: `delen tenant list --users` says who")
            del hashes[name]
            return self._bring_about(self.roster(), hashes)

    def _become(self, roster: Roster) -> Change:
        self._write(self._roster, roster.text())
        return self._bring_about(roster)

    def _bring_about(self, roster: Roster, hashes: Mapping[str, str] | None = None) -> Change:
        """Writes what follows from a roster: rights first, so that nobody comes without any."""
        before = read_hashes(self._passwords) if hashes is None else hashes
        everybody = users(roster, self._topics)
        passwords = new_passwords(user.name for user in everybody if user.name not in before)
        known = {**before, **hashes_of(passwords)}
        self._write(self._acl, acl(everybody))
        self._write(self._passwords, text_of({user.name: known[user.name] for user in everybody}))
        removed = tuple(sorted(set(before) - {user.name for user in everybody}))
        return Change(passwords=passwords, removed=removed)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lets one process at a time change the files."""
        try:
            folder = os.open(self._passwords.parent, os.O_RDONLY)
        except OSError as error:
            raise BrokerError(
                f"the folder of the broker's passwords cannot be opened: {error};"
                " deploy/make-secrets makes it, DELEN_PASSWORDS names another"
            ) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, path: Path, text: str) -> None:
        """Replaces a file, whole or not at all, where it differs.

        It is the password file's owner's alone, who is the broker's user.
        """
        try:
            if path.exists() and path.read_bytes() == text.encode():
                return
            owner = self._passwords.stat()
            partial = path.with_name(f"{path.name}.partial")
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600)
            if os.geteuid() == 0:
                os.chown(partial, owner.st_uid, owner.st_gid)
            partial.chmod(owner.st_mode & 0o777)
            partial.write_text(text, "utf-8")
            partial.replace(path)
        except OSError as error:
            raise BrokerError(f"{path} cannot be written: {error}") from error


def _roster_before(names: Iterable[str]) -> Roster:
    """Who an installation let in that has no tenants file yet."""
    return roster_of({"tenants": {name: {} for name in names if name not in {APPLIANCE, FLEET}}})


def _joined(name: str, present: Tenant, more: Tenant) -> Tenant:
    there = [user for user in more.names if user in present.names]
    if there or not more.names:
        user = f"{name}/{there[0]}" if there else name
        raise BrokerError(
            f"{user} is there already: `delen tenant renew {user}` gives it a new password"
        )
    return Tenant.model_construct(
        user=present.user,
        sensors={**present.sensors, **more.sensors},
        applications=(*present.applications, *more.applications),
        fleet_managers=(*present.fleet_managers, *more.fleet_managers),
    )


def _without(tenant: Tenant, name: str) -> Tenant:
    return tenant.model_copy(
        update={
            "sensors": {user: sensor for user, sensor in tenant.sensors.items() if user != name},
            "applications": tuple(user for user in tenant.applications if user != name),
            "fleet_managers": tuple(user for user in tenant.fleet_managers if user != name),
        }
    )
