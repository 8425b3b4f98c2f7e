"""The parts of an appliance that are asked how it stands, by telemetry and by metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.bookkeeper import Bookkeeper
from appliance.frame_memory import FrameMemory
from appliance.gateway import Gateway
from appliance.loop import ExecutorLoop
from appliance.plan import Plan
from appliance.power.sampler import Sampler
from appliance.scheduler import Scheduler
from appliance.shelf import EngineShelf
from appliance.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Who knows what. The scheduler and the bookkeeper are asked in the loop's thread alone."""

    appliance: str
    plans: Callable[[], Mapping[str, Plan]]
    """What is in force, by tenant."""
    loop: ExecutorLoop
    scheduler: Scheduler
    bookkeeper: Bookkeeper
    sampler: Sampler
    shelf: EngineShelf
    store: Store
    gateway: Gateway
    memory: FrameMemory
    clock: Callable[[], float]
