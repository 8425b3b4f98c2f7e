"""The broker's password file: whose password it takes, hashed as Mosquitto 2 hashes it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.errors import BrokerError

_PASSWORD_BYTES = 24
_SALT_BYTES = 12
_ITERATIONS = 1000
"""The broker counts them at every connection, in its one thread. What keeps a password from being
guessed is its 192 random bits."""


def read_hashes(path: Path) -> dict[str, str]:
    """The hash of each user's password. Raises BrokerError."""
    try:
        # Not splitlines: that ends a line at characters that Mosquitto takes for part of a name.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise BrokerError(
            f"there is no password file {path}: deploy/make-secrets makes it; DELEN_PASSWORDS"
            " names another"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"the broker's password file cannot be read: {error}") from error
    return dict(line.split(":", 1) for line in lines if ":" in line)


def text_of(hashes: Mapping[str, str]) -> str:
    """The password file that holds them."""
    return "".join(f"{name}:{hash_}\n" for name, hash_ in hashes.items())


def new_passwords(names: Iterable[str]) -> dict[str, str]:
    """A password for each name, which nobody guesses."""
    return {name: secrets.token_urlsafe(_PASSWORD_BYTES) for name in names}


def hashes_of(passwords: Mapping[str, str]) -> dict[str, str]:
    """What is kept of passwords, by name."""
    return {
        name: hashed(password, secrets.token_bytes(_SALT_BYTES))
        for name, password in passwords.items()
    }


def hashed(password: str, salt: bytes) -> str:
    """A password as it stands in the file: PBKDF2 with SHA-512, Mosquitto's kind 7."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${_base64(salt)}${_base64(digest)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
