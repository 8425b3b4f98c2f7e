"""Keeps engines in service: reloads those that fail, takes out those that go on, tells tenants."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from appliance.engine_health import Remedy
from appliance.errors import EngineError
from appliance.messages import PolicyState
from appliance.opener import Opened
from appliance.policy_book import PolicyBook
from appliance.shelf import EngineShelf, StageFailed

_log = logging.getLogger(__name__)


class Upkeep:
    """Has the shelf and the plans go together. Every call comes from the intake's thread.

    `tell` is given the policy states that have changed for their tenants.
    """

    def __init__(
        self, *, shelf: EngineShelf, book: PolicyBook, tell: Callable[[PolicyState], None]
    ) -> None:
        self.reload_failure: str | None = None
        """Why an engine could not be reloaded when that was last told; None where it could."""
        self._told: set[str] = set()
        self._shelf = shelf
        self._book = book
        self._tell = tell

    def reload(self, names: Sequence[str]) -> None:
        """Has engines opened again as they are on disk. Raises EngineError where one is unknown."""
        self.reload_failure = None
        for name in names:
            self._shelf.reload(name)
            self._shelf.bring_back(name)
            self._told.add(name)

    def opened(self, opened: Opened) -> None:
        """Puts a new generation in service, and has the one before closed after its last task."""
        name, previous = opened.engine.name, self._shelf.take(opened)
        if opened.error is not None:
            if name in self._told:
                self.reload_failure = str(opened.error)
                self._told.remove(name)
            return
        self._told.discard(name)
        was_out = {state.tenant for state in self._book.states() if state.out_of_service}
        for state in self._book.renew(opened.engine):
            # One that was unloaded for want of room is opened again without a word.
            if previous is not None or state.out_of_service or state.tenant in was_out:
                self._tell(state)
        if previous is not None:
            self._shelf.close(previous)

    def settle(self, name: str) -> None:
        """After all that waited for an engine was dealt with."""
        sentence = self._shelf.settle(name)
        if sentence is not None:
            self._tell_all(self._book.take_out(name, sentence))

    def stage_failed(self, failure: StageFailed) -> None:
        """Reloads an engine whose stage failed, or takes it out of service."""
        name, error = failure.engine.name, failure.error
        remedy = self._shelf.failed(failure)
        if remedy is Remedy.RELOAD:
            _log.warning("engine %s is reloaded, since a stage failed: %s", name, error)
            try:
                self._shelf.reload(name)
            except EngineError as unreadable:
                _log.error("engine %s cannot be reloaded: %s", name, unreadable)
        elif remedy is Remedy.TAKE_OUT:
            self._tell_all(self._book.take_out(name, self._shelf.take_out(failure)))

    def _tell_all(self, states: Sequence[PolicyState]) -> None:
        for state in states:
            self._tell(state)
