"""The fleet as it is seen over MQTT: takes what the watcher heard into the picture."""

from __future__ import annotations

import asyncio
import time

from appliance.fleet.fleet import Fleet
from appliance.watcher import Watcher

TAKE_EVERY_S = 0.1


class Picture:
    """The fleet and the connection that it is drawn from; belongs to one thread."""

    def __init__(self, watcher: Watcher, *, prefix: str) -> None:
        self.watcher = watcher
        self.fleet = Fleet(prefix=prefix)

    def take(self) -> None:
        """Takes in what came since."""
        for at_s, message in self.watcher.take():
            self.fleet.take(message, at_s)

    async def keep_taking(self) -> None:
        """Takes in what comes, until it is cancelled."""
        while True:
            self.take()
            await asyncio.sleep(TAKE_EVERY_S)

    @staticmethod
    def now_s() -> float:
        """The moment, in seconds since the epoch."""
        return time.time()
