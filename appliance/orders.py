"""Carries out what a fleet manager tells the appliance itself."""

from __future__ import annotations

import logging
from collections.abc import Callable

from appliance.budgets import Budgets
from appliance.command import Command, parse_command
from appliance.device_budget import DeviceBudget, parse_device_budget
from appliance.errors import EngineError, InvalidDocument, StoreError
from appliance.loop import ExecutorLoop
from appliance.store import Store
from appliance.upkeep import Upkeep

_log = logging.getLogger(__name__)

DEVICE_BUDGET = "device_budget"
"""What the command is kept as that changes the device's budget."""


class Orders:
    """Obeys commands, in the intake's thread. `drain` is called where the appliance is to end.

    `device_budget` is the setting's, which holds until a command says otherwise.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        device_budget: DeviceBudget | None,
        budgets: Budgets,
        loop: ExecutorLoop,
        store: Store,
        upkeep: Upkeep,
        drain: Callable[[], None],
    ) -> None:
        self._device_budget = device_budget
        self._budgets = budgets
        self._loop = loop
        self._store = store
        self._upkeep = upkeep
        self._drain = drain
        self._refusal: str | None = None
        budgets.set_device(device_budget)

    @property
    def failure(self) -> str | None:
        """Why the last command was turned away, or could not be carried out."""
        return self._refusal or self._upkeep.reload_failure

    def restore(self, kept: str | None) -> None:
        """Takes up the device's budget that was last told, before the loop runs."""
        if kept is not None:
            self._budgets.set_device(parse_device_budget(kept))

    def take_up(self, kept: str | None) -> None:
        """Takes up the device's budget that a restored database holds, while the loop runs."""
        in_force = self._device_budget if kept is None else parse_device_budget(kept)
        self._loop.call(lambda: self._budgets.set_device(in_force))

    def obey(self, payload: bytes) -> None:
        """Carries out a command, or notes why not."""
        try:
            command = parse_command(payload)
            self._carry_out(command)
        except (InvalidDocument, StoreError, EngineError) as error:
            self._refusal = str(error)
            _log.warning("a command is turned away: %s", error)
        else:
            self._refusal = None

    def _carry_out(self, command: Command) -> None:
        if command.sets_device_budget:
            self._set_device_budget(command.device_budget)
        if command.reload:
            _log.info("told to reload %s", ", ".join(command.reload))
            self._upkeep.reload(command.reload)
        if command.drain:
            _log.info("told to drain")
            self._drain()

    def _set_device_budget(self, budget: DeviceBudget | None) -> None:
        self._store.save_command(DEVICE_BUDGET, None if budget is None else budget.exactly())
        in_force = budget or self._device_budget
        self._loop.call(lambda: self._budgets.set_device(in_force))
        _log.info("the budget of the device is %s", in_force or "lifted")
