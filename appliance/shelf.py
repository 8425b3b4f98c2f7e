"""The engines on the shelf: which are open, which are being opened, and which no longer serve."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from appliance import manifest
from appliance.engine import Engine
from appliance.engine_health import MOST_FAILURES, WINDOW_S, Health, Remedy
from appliance.errors import EngineClosed, EngineError
from appliance.eviction import Held, to_unload
from appliance.opener import Opened, Opener
from appliance.plan_folder import with_plans

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageFailed:
    """A stage of an engine raised. `at_s` is in monotonic seconds."""

    engine: Engine
    error: EngineError
    at_s: float


@dataclass(kw_only=True, slots=True)
class _Known:
    """What is remembered of an engine's name, whether it is open or not."""

    file_bytes: int = 0
    grown_bytes: int = 0
    """By how much the process grew when it was last opened."""
    used_s: float = 0.0
    opening_since_s: float = 0.0
    took_s: float = 0.0
    """How long it took to open when it last was."""

    @property
    def size_bytes(self) -> int:
        # What the process grows by tells more than the files, but other threads make it vary.
        return max(self.file_bytes, self.grown_bytes)


class EngineShelf:
    """Decides what is opened and closed, and has the opener do it.

    An `Engine` object is one generation: an engine that is opened again, whatever for, is a new
    one, read anew from its folder. The engine that was open before serves on until the new one is
    taken in and the plans are made for it; then it is to be closed. Every call comes from the one
    thread that takes in what arrives; `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        *,
        folder: Path,
        plans: Path | None,
        memory_bytes: float,
        opener: Opener,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._plans = plans
        self._memory_bytes = memory_bytes
        self._opener = opener
        self._clock = clock
        self._open: dict[str, Engine] = {}
        self._backends: dict[str, str] = {}
        self._opening: Counter[str] = Counter()
        self._known: defaultdict[str, _Known] = defaultdict(_Known)
        self._health: defaultdict[str, Health] = defaultdict(Health)
        self._out: dict[str, str] = {}
        self._failed_to_open: dict[str, EngineError] = {}

    def engine(self, name: str) -> Engine:
        """The engine of that name, open and warm.

        Raises EngineClosed where it is opened only now: `take` tells when it may be asked for
        again. Raises EngineError where there is none, or it does not serve.
        """
        if name in self._failed_to_open:
            raise self._failed_to_open[name]
        if name in self._out:
            raise EngineError(self._out[name])
        engine = self._open.get(name)
        if engine is None:
            if not self._opening[name]:
                self.reload(name)
            known = self._known[name]
            ready_s = known.opening_since_s + known.took_s
            raise EngineClosed(name, opens_in_s=max(0.0, ready_s - self._clock()))
        self._known[name].used_s = self._clock()
        return engine

    def reload(self, name: str) -> None:
        """Opens an engine from its folder, whether it is open or not. Raises EngineError."""
        engine = self._load(name)
        known = self._known[name]
        known.file_bytes = _file_bytes(engine)
        known.used_s = known.opening_since_s = self._clock()
        self._opening[name] += 1
        self._make_room(name)
        self._opener.open(engine)

    def take(self, opened: Opened) -> Engine | None:
        """Takes in what came of opening an engine; the generation before it, which is to be closed.

        Where it failed, the one before serves on; where there is none, `engine` raises why, until
        `settle`.
        """
        name, known = opened.engine.name, self._known[opened.engine.name]
        self._opening[name] -= 1
        if opened.error is not None:
            _log.error("engine %s cannot be opened: %s", name, opened.error)
            if name not in self._open:
                self._failed_to_open[name] = opened.error
            return None
        previous = self._open.get(name)
        self._open[name], self._backends[name] = opened.engine, opened.backend
        known.took_s, known.grown_bytes = opened.took_s, opened.grown_bytes
        self._make_room(name)
        return previous

    def settle(self, name: str) -> str | None:
        """Once all that waited for an engine has been told: what later ones are told.

        An engine that cannot be opened is out of service, rather than tried for every request.
        """
        error = self._failed_to_open.pop(name, None)
        if error is None:
            return None
        return self._put_out(name, f"it cannot be opened: {error}")

    def bring_back(self, name: str) -> None:
        """Lets an engine that is out of service be opened again."""
        if self._out.pop(name, None) is not None:
            self._health.pop(name, None)

    def failed(self, failure: StageFailed) -> Remedy:
        """What a failure of a stage asks for.

        Nothing where it was of a generation that is replaced already, or is about to be.
        """
        name = failure.engine.name
        if self._open.get(name) is not failure.engine or self._opening[name]:
            return Remedy.NOTHING
        return self._health[name].failed(failure.at_s)

    def take_out(self, failure: StageFailed) -> str:
        """Takes an engine out of service; the sentence that its tenants are told."""
        name = failure.engine.name
        self._unload(name)
        reason = f"its stages failed {MOST_FAILURES} times within {WINDOW_S:g} s, at last with"
        return self._put_out(name, f"{reason}: {failure.error}")

    def _put_out(self, name: str, reason: str) -> str:
        self._out[name] = (
            f"the engine {name} is out of service, since {reason}. Once it is mended, push the"
            f' policy again, or send the appliance the command {{"reload": "{name}"}}'
        )
        _log.error("%s", self._out[name])
        return self._out[name]

    def close(self, engine: Engine) -> None:
        """Closes a generation for which no task is submitted any more."""
        self._opener.close(engine)

    def backends(self) -> Mapping[str, str]:
        """The engines that are open, and the name of the backend that runs each."""
        return dict(self._backends)

    def out_of_service(self) -> Mapping[str, str]:
        """The engines that were taken out of service, and what is said of each."""
        return dict(self._out)

    def _make_room(self, name: str) -> None:
        """Unloads what has not been used for longest, until the rest keeps within the limit.

        What is named stays, and so does what is being opened.
        """
        stays = {name, *(+self._opening)}
        held = [
            Held(name=other, size_bytes=known.size_bytes, used_s=known.used_s)
            for other in self._open.keys() - stays
            if (known := self._known[other])
        ]
        coming_bytes = sum(self._known[other].size_bytes for other in stays)
        for other in to_unload(held, coming_bytes=coming_bytes, limit_bytes=self._memory_bytes):
            _log.info("engine %s is unloaded, to make room for %s", other, name)
            self._unload(other)

    def _unload(self, name: str) -> None:
        del self._backends[name]
        self.close(self._open.pop(name))

    def _load(self, name: str) -> Engine:
        folders = manifest.find(self._folder)
        if name not in folders:
            known = ", ".join(sorted(folders)) or "none"
            raise EngineError(f"no engine `{name}` in {self._folder}; engines there: {known}")
        # Policies name the folder, whatever name the manifest in it carries.
        return replace(with_plans(manifest.load(folders[name]), self._plans), name=name)


def _file_bytes(engine: Engine) -> int:
    """The size of the files of an engine's stages, weights that lie beside them included."""
    paths = [path for stage in engine.stages if (path := stage.onnx or stage.tensorrt) is not None]
    try:
        return sum(file.stat().st_size for p in paths for file in p.parent.glob(f"{p.name}*"))
    except OSError as error:
        raise EngineError(f"the files of {engine.name} cannot be read: {error}") from error
