"""The broker's password file: who may connect, hashed as Mosquitto 2 hashes it."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import BrokerError
from appliance.topics import level_fault

OWN_USERS = ("appliance", "fleet")
"""Users that are no tenants: the appliance, and the fleet manager."""

_PASSWORD_BYTES = 24
_SALT_BYTES = 12
_ITERATIONS = 1000
"""The broker counts them at every connection, in its one thread. What keeps a password from being
guessed is its 192 random bits."""


def tenants(path: Path) -> list[str]:
    """The tenants that may connect, by name. Raises BrokerError."""
    return sorted(set(_read(path)) - set(OWN_USERS))


def add_tenant(path: Path, name: str) -> str:
    """Lets a tenant connect, and gives its new password. Raises BrokerError."""
    fault = _name_fault(name)
    if fault is not None:
        raise BrokerError(f"{name!r} can be no tenant: {fault}")
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    with _changing(path) as users:
        if name in users:
            raise BrokerError(
                f"{name} is a tenant already: `delen tenant remove {name}` first, and it gets a new"
                " password"
            )
        users[name] = hashed(password, secrets.token_bytes(_SALT_BYTES))
    return password


def remove_tenant(path: Path, name: str) -> None:
    """Lets a tenant connect no more. Raises BrokerError."""
    with _changing(path) as users:
        if name in OWN_USERS or name not in users:
            others = ", ".join(sorted(set(users) - set(OWN_USERS))) or "none"
            raise BrokerError(f"there is no tenant {name}; there are: {others}")
        del users[name]


def hashed(password: str, salt: bytes) -> str:
    """A password as it stands in the file: PBKDF2 with SHA-512, Mosquitto's kind 7."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${_base64(salt)}${_base64(digest)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _name_fault(name: str) -> str | None:
    if name in OWN_USERS:
        return "the broker knows another user by that name"
    if ":" in name:
        return "`:` ends a name in the broker's password file"
    return level_fault(name)


def _read(path: Path) -> dict[str, str]:
    """The hash of each user."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise BrokerError(
            f"there is no password file {path}: deploy/make-secrets makes it; DELEN_PASSWORDS"
            " names another"
        ) from error
    except OSError as error:
        raise BrokerError(f"the broker's password file cannot be read: {error}") from error
    return dict(line.split(":", 1) for line in lines if ":" in line)


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, str]]:
    """The users, to be changed by one process at a time; written when the block ends well."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            users = _read(path)
            yield users
            _write(path, users)
        finally:
            os.close(folder)
    except OSError as error:
        raise BrokerError(f"the broker's password file cannot be written: {error}") from error


def _write(path: Path, users: dict[str, str]) -> None:
    """Replaces the file, whole or not at all; it stays its owner's, who is the broker's user."""
    before = path.stat()
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(partial, before.st_uid, before.st_gid)
    partial.chmod(before.st_mode & 0o777)
    partial.write_text("".join(f"{name}:{hash_}\n" for name, hash_ in users.items()), "utf-8")
    partial.replace(path)
