"""The engines on the shelf, and those of them that are open and warm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from appliance import manifest
from appliance.backends.protocol import Backend
from appliance.engine import Engine
from appliance.errors import EngineError
from appliance.executor import Executor
from appliance.loop import ExecutorLoop

_log = logging.getLogger(__name__)

WARM_UP_RUNS = 16

CALIBRATION_TIMEOUT_S = 2.0
CALIBRATION_PIECE_S = 0.05
"""How long a piece of it holds up other engines' stages."""


class EngineShelf:
    """Opens an engine on its first use, in the executor's thread, until that thread ends."""

    def __init__(
        self,
        *,
        folder: Path,
        loop: ExecutorLoop,
        executor: Executor,
        open_backend: Callable[[Engine], AbstractContextManager[Backend]],
    ) -> None:
        self._folder = folder
        self._loop = loop
        self._executor = executor
        self._open_backend = open_backend
        self._open: dict[str, Engine] = {}
        self._backends: dict[str, str] = {}

    def engine(self, name: str) -> Engine:
        """The engine of that name, open and warm. Raises EngineError where there is none."""
        engine = self._open.get(name)
        if engine is None:
            engine = self._load(name)
            backend = self._loop.enter(self._open_backend(engine))
            self._loop.call(lambda: self._executor.add(engine, backend))
            self._loop.occupy(lambda: self._executor.warm_up(engine, runs=WARM_UP_RUNS))
            self._calibrate(engine)
            self._open[name], self._backends[name] = engine, backend.name
            _log.info("engine %s is open: %d exits", name, len(engine.stages))
        return engine

    def _calibrate(self, engine: Engine) -> None:
        """Where there is a meter, lets it see the stages at work before the first request."""
        energy = self._executor.tenancy.energy
        ends_s = time.monotonic() + CALIBRATION_TIMEOUT_S
        while time.monotonic() < ends_s and self._loop.call(
            lambda: energy.lacks_calibration(engine.name)
        ):
            self._loop.occupy(lambda: self._executor.exercise(engine, seconds=CALIBRATION_PIECE_S))

    def backends(self) -> Mapping[str, str]:
        """The engines that are open, and the backend that runs each."""
        return self._backends

    def stage_times_s(self, engine: Engine) -> tuple[float, ...]:
        """The estimated time of each stage of an open engine, in seconds."""
        return self._loop.call(lambda: tuple(self._executor.times(engine).careful_s))

    def _load(self, name: str) -> Engine:
        folders = manifest.find(self._folder)
        if name not in folders:
            known = ", ".join(sorted(folders)) or "none"
            raise EngineError(f"no engine `{name}` in {self._folder}; engines there: {known}")
        # Policies name the folder, whatever name the manifest in it carries.
        return replace(manifest.load(folders[name]), name=name)
