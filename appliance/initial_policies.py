"""The policies that are there before anything arrives: those kept, and those to start from."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from appliance.errors import InvalidDocument
from appliance.intake import PolicyStart
from appliance.policy import tenant_of
from appliance.policy_book import PolicyBook
from appliance.reader import Reader

_log = logging.getLogger(__name__)


def kept_policies(database: Path, book: PolicyBook) -> list[PolicyStart]:
    """Those that were in force when the appliance last ended. Raises StoreError."""
    with Reader(database) as reader:
        stored = reader.policies()
    return [
        PolicyStart(tenant=one.tenant, put_in_force=partial(book.restore, one.tenant, one.source))
        for one in stored
    ]


def policies_to_start_from(folder: Path, database: Path, book: PolicyBook) -> list[PolicyStart]:
    """Those in the conditions folder, for tenants that never had one. Raises StoreError."""
    with Reader(database) as reader:
        known = reader.known_tenants()
    policies = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            source = path.read_bytes()
            tenant = tenant_of(source)
        except (InvalidDocument, OSError) as error:
            _log.error("%s is no policy: %s", path, error)
            continue
        if tenant not in known:
            push = partial(book.push, tenant, source)
            policies.append(PolicyStart(tenant=tenant, put_in_force=push))
    return policies
