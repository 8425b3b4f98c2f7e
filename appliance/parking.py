"""What waits for an engine that is being opened, tenant by tenant, in the order it came."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Parking(Generic[T]):
    """Keeps each tenant's order: behind what waits, all that is the same tenant's waits too."""

    _engines: dict[str, str] = field(default_factory=dict)
    """The engine that each tenant waits for."""
    _waiting: dict[str, deque[T]] = field(default_factory=dict)
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def holds(self, tenant: str) -> bool:
        """Whether something of the tenant waits, so that what comes next must wait behind it."""
        return tenant in self._waiting

    def park(self, tenant: str, item: T, *, engine: str) -> None:
        """Has something wait for an engine, the first of its tenant to wait."""
        self._engines[tenant] = engine
        self._waiting[tenant] = deque([item])
        self._count += 1

    def park_behind(self, tenant: str, item: T) -> None:
        """Has something wait behind what the tenant has waiting already."""
        self._waiting[tenant].append(item)
        self._count += 1

    def release(self, engine: str) -> list[T]:
        """Takes out what waits for an engine, with all that waits behind it."""
        tenants = [tenant for tenant, wanted in self._engines.items() if wanted == engine]
        released: list[T] = []
        for tenant in tenants:
            del self._engines[tenant]
            released += self._waiting.pop(tenant)
        self._count -= len(released)
        return released
