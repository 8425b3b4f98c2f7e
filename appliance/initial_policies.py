"""The policies that are there before anything arrives: those kept, and those to start from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from appliance.connection import BrokerAddress
from appliance.errors import BrokerError, InvalidDocument, StoreError
from appliance.intake import PolicyStart
from appliance.messages import PolicyState
from appliance.orders import DEVICE_BUDGET, Orders
from appliance.policy import tenant_of
from appliance.policy_book import PolicyBook
from appliance.reader import Reader
from appliance.retained import retained_policies
from appliance.settings import Settings
from appliance.topics import Topics

_log = logging.getLogger(__name__)


def policies_before_requests(
    settings: Settings, topics: Topics, book: PolicyBook
) -> Iterator[list[PolicyStart]]:
    """All of them, in the order in which they are to be put in force. Raises StoreError.

    The next ones are looked for once those before are in force.
    """
    yield kept_policies(settings.database, book)
    yield _retained(settings, topics, book)
    yield policies_to_start_from(settings.conditions, settings.database, book)


def kept_policies(database: Path, book: PolicyBook) -> list[PolicyStart]:
    """Those that were in force when the appliance last ended. Raises StoreError."""
    with Reader(database) as reader:
        stored = reader.policies()
    return [
        PolicyStart(tenant=one.tenant, put_in_force=partial(book.restore, one.tenant, one.source))
        for one in stored
    ]


def _retained(settings: Settings, topics: Topics, book: PolicyBook) -> list[PolicyStart]:
    """Those that the broker has retained; a version below the one in force is passed by.

    They would come by themselves, but behind the requests that it kept for this appliance: after
    the loss of a database these would find no policy, and after a pause an old one.
    """
    try:
        documents = retained_policies(BrokerAddress.of(settings), topics)
    except BrokerError as error:
        _log.warning("policies may come late: %s", error)
        return []
    return [
        PolicyStart(tenant=tenant, put_in_force=partial(book.push, tenant, document, retained=True))
        for tenant, document in documents.items()
    ]


def restored_policies(
    database: Path,
    book: PolicyBook,
    orders: Orders,
    tell: Callable[[str, PolicyState | None], None],
) -> list[PolicyStart]:
    """Those of a database that was restored while it runs; what is not among them is withdrawn.

    `tell` is given each tenant's state as it becomes. The device's budget is taken up as well, but
    no tenant's standing: what is spent stays spent.
    """
    try:
        stored = kept_policies(database, book)
        with Reader(database) as reader:
            orders.take_up(reader.command(DEVICE_BUDGET))
    except StoreError as error:
        _log.error("the restored policies cannot be read: %s", error)
        return []
    for tenant in book.tenants() - {one.tenant for one in stored}:
        book.withdraw(tenant)
        tell(tenant, None)

    def put_in_force(one: PolicyStart) -> None:
        one.put_in_force()
        tell(one.tenant, book.state(one.tenant))

    return [
        PolicyStart(tenant=one.tenant, put_in_force=partial(put_in_force, one)) for one in stored
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
