"""A policy compiled for an engine: it says after each exit whether a task stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from appliance.conditions import Condition, ExitMetrics, Predicate, Scope, compile_condition
from appliance.engine import Engine
from appliance.errors import Fault, Faulty, KeyPath
from appliance.foresight import NEVER, outcomes
from appliance.policy import Mode, Policy


class StoppedBy(str, Enum):
    """Why a task answered from the exit it did."""

    CONDITION = "condition"
    RESPONSE_TIME = "response_time"
    """The exit that was wanted next would have broken the bound on response time."""
    ENERGY = "energy"
    """The exit that was wanted next would have broken the bound on energy."""
    ACCURACY = "accuracy"
    """Every deeper exit lies below the accuracy floor, which this one keeps."""
    BEST_EXIT = "best_exit"
    """No deeper exit is more accurate, and no condition asks for one."""
    LAST_EXIT = "last_exit"
    BUDGET = "budget"
    """What is left of a budget does not reach for the exit wanted next, or is kept for others."""
    AGREEMENT = "agreement"
    """Sure enough to agree with the last exit as often as is asked for."""
    GOAL = "goal"
    """As deep as the policy's goal allows at the moment."""
    LOAD = "load"
    """Other requests needed the device before the exit wanted next."""
    ERROR = "error"
    """The condition could not be evaluated at this exit."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A deeper exit that a policy wants next, and whether the accuracy floor asks for it."""

    exit: int
    for_floor: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """What was learnt of a tenant's stream says of leaving at an exit.

    `agrees` is whether the answer is sure enough to agree with the last exit, None where no
    agreement is asked for; `suffices` whether the tenant's goal asks for no more.
    """

    agrees: bool | None = None
    suffices: bool = False


UNLEARNT = Leave()


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptRule:
    """When to be in a mode, asked of a TenantMetrics, and for how long at least."""

    mode: str
    when: Predicate
    hold_s: float | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a task is run by. `predicates` has one entry per exit, None where nothing is asked.

    `modes` holds the plan of each of the policy's modes, whose `mode` is its name; `rules` say
    when to be in which, the first that holds going first.
    """

    policy: Policy
    engine: Engine
    predicates: tuple[Predicate | None, ...]
    mode: str | None = None
    modes: Mapping[str, Plan] = field(default_factory=dict)
    rules: tuple[AdaptRule, ...] = ()

    def decide(
        self,
        metrics: ExitMetrics,
        *,
        stage_times_s: Sequence[float],
        stage_energies_j: Sequence[float | None],
        response_time_bound_s: float | None,
        leave: Leave = UNLEARNT,
    ) -> StoppedBy | Wish:
        """Why the task stops at the exit that `metrics` tells of, or what it wants next.

        First it is asked which exit is wanted next, then whether it fits the bounds: they look
        ahead, by the estimated times and energies of the stages (`stage_times_s` in seconds,
        `stage_energies_j`, one per stage each), so that they are kept rather than found broken.
        The bound on response time is given apart, because a message's expiry can shorten the
        policy's.
        """
        if metrics.exit == self.engine.last_exit:
            return StoppedBy.LAST_EXIT
        wish = self._wish(metrics, leave)
        if isinstance(wish, StoppedBy):
            return wish
        if response_time_bound_s is not None:
            ahead_s = sum(stage_times_s[metrics.exit + 1 : wish.exit + 1])
            if metrics.response_time + ahead_s > response_time_bound_s:
                return StoppedBy.RESPONSE_TIME
        energy_bound_j = self.policy.bounds.energy
        if energy_bound_j is not None:
            energy_j = energy_at(wish.exit, metrics, stage_energies_j)
            if energy_j is None or energy_j > energy_bound_j:
                return StoppedBy.ENERGY
        return wish

    def _wish(self, metrics: ExitMetrics, leave: Leave) -> Wish | StoppedBy:
        """The deeper exit that the policy wants next, or why it wants none.

        For accuracy's sake only an exit that is more accurate is wanted, so that dominated ones
        are passed by on the way; a condition that does not fire wants the next exit, whichever.
        """
        better = self.engine.better_exit[metrics.exit]
        floor = self.policy.bounds.accuracy
        below_floor = floor is not None and (metrics.accuracy or 0.0) < floor
        if below_floor and better is not None:
            return Wish(better, for_floor=True)
        if leave.suffices:
            return StoppedBy.GOAL
        if leave.agrees is False:
            return Wish(metrics.exit + 1)
        predicate = self.predicates[metrics.exit]
        if predicate is None and leave.agrees:
            return StoppedBy.AGREEMENT
        if predicate is None:
            return StoppedBy.BEST_EXIT if better is None else Wish(better)
        try:
            if predicate(metrics):
                return StoppedBy.CONDITION
        except TypeError:
            return StoppedBy.ERROR
        if floor is not None and not below_floor and not self._floor_kept_below(metrics.exit):
            return StoppedBy.ACCURACY
        return Wish(metrics.exit + 1)

    def _floor_kept_below(self, exit_: int) -> bool:
        floor = self.policy.bounds.accuracy or 0.0
        return any((stage.accuracy or 0.0) >= floor for stage in self.engine.stages[exit_ + 1 :])

    @cached_property
    def first_answers(self) -> tuple[int, ...]:
        """For each stage the first exit from there on that `decide` may stop at.

        What lies before it is passed by whatever the frame is, as far as the bounds on time and
        energy and the budgets allow.
        """
        first = self.engine.last_exit
        firsts = [first]
        for exit_ in reversed(range(self.engine.last_exit)):
            if not self._always_passes(exit_):
                first = exit_
            firsts.append(first)
        return tuple(reversed(firsts))

    def _always_passes(self, exit_: int) -> bool:
        """Whether `_wish` wants a deeper exit here whatever the metrics are.

        With an agreement it never does: what every exit says is learnt from.
        """
        if self.policy.bounds.agreement is not None:
            return False
        floor, better = self.policy.bounds.accuracy, self.engine.better_exit[exit_]
        is_below = floor is not None and (self.engine.stages[exit_].accuracy or 0.0) < floor
        if is_below and better is not None:
            return True
        if self.policy.goal is not None:
            return False
        condition = _conditions(self.policy, self.engine)[exit_]
        if condition is None:
            return better is not None
        never_fires = outcomes(condition, self.engine, exit_) == NEVER
        return never_fires and (floor is None or is_below or self._floor_kept_below(exit_))

    @property
    def owed_exit(self) -> int:
        """The first exit that keeps the accuracy floor; the first of all where none does."""
        floor = self.policy.bounds.accuracy
        if floor is None:
            return 0
        stages = enumerate(self.engine.stages)
        return next((exit_ for exit_, stage in stages if (stage.accuracy or 0.0) >= floor), 0)

    def unmet(self, metrics: ExitMetrics) -> tuple[str, ...]:
        """The policy's bounds that an answer with these metrics does not keep."""
        bounds = self.policy.bounds
        kept = {
            "response_time": bounds.response_time is None
            or metrics.response_time <= bounds.response_time,
            "energy": bounds.energy is None
            or (metrics.energy is not None and metrics.energy <= bounds.energy),
            "accuracy": bounds.accuracy is None
            or (metrics.accuracy is not None and metrics.accuracy >= bounds.accuracy),
        }
        return tuple(name for name, is_kept in kept.items() if not is_kept)


def energy_at(
    exit_: int, metrics: ExitMetrics, stage_energies_j: Sequence[float | None]
) -> float | None:
    """What a deeper exit would have cost in joules, None where a stage's energy is not known."""
    total_j = metrics.energy
    for stage_j in stage_energies_j[metrics.exit + 1 : exit_ + 1]:
        if total_j is None or stage_j is None:
            return None
        total_j += stage_j
    return total_j


def expected_gain(engine: Engine, metrics: ExitMetrics, deeper: int) -> float:
    """The accuracy that a deeper exit is expected to add to this very answer.

    The part of its errors that the deeper exit mends on average, times how likely this answer is
    to be one. Without a profile every error is taken to be mended.
    """
    doubt = 1.0 - metrics.expected_accuracy
    here, there = metrics.accuracy, engine.stages[deeper].accuracy
    if here is None or there is None or here >= 1.0:
        return doubt
    return doubt * max(0.0, there - here) / (1.0 - here)


def compile_plan(policy: Policy, engine: Engine) -> Plan:
    """Compiles a policy's conditions, and those of its modes, for an engine.

    Raises Faulty where the policy does not fit the engine: a list of conditions of another length
    than the engine has exits, or a bound on what the engine's profile does not tell.
    """
    faults = _misfits(policy, engine, ())
    in_modes = {name: _in_mode(policy, mode) for name, mode in policy.modes.items()}
    for name, variant in in_modes.items():
        said = policy.modes[name].model_fields_set
        faults += [
            fault
            for fault in _misfits(variant, engine, ("modes", name))
            if fault.path[2] in said  # what a mode takes over is complained of once
        ]
    if faults:
        raise Faulty(faults)
    return Plan(
        policy=policy,
        engine=engine,
        predicates=_predicates(policy, engine),
        modes={
            name: Plan(
                policy=variant, engine=engine, predicates=_predicates(variant, engine), mode=name
            )
            for name, variant in in_modes.items()
        },
        rules=tuple(
            AdaptRule(
                mode=rule.use, when=compile_condition(rule.when, Scope.TENANT), hold_s=rule.hold
            )
            for rule in policy.adapt
        ),
    )


def _in_mode(policy: Policy, mode: Mode) -> Policy:
    """The policy with what a mode says in place of its own; what it does not say stays."""
    return policy.model_copy(update={name: getattr(mode, name) for name in mode.model_fields_set})


def _conditions(policy: Policy, engine: Engine) -> tuple[Condition | None, ...]:
    exit_when = policy.exit_when
    return exit_when if isinstance(exit_when, tuple) else (exit_when,) * len(engine.stages)


def _predicates(policy: Policy, engine: Engine) -> tuple[Predicate | None, ...]:
    return tuple(
        None if condition is None else compile_condition(condition)
        for condition in _conditions(policy, engine)
    )


def _misfits(policy: Policy, engine: Engine, place: KeyPath) -> list[Fault]:
    """What of a policy does not fit an engine; `place` is where its parts stand."""
    faults: list[Fault] = []
    exits, conditions = len(engine.stages), _conditions(policy, engine)
    if len(conditions) != exits:
        message = f"{len(conditions)} conditions for the {exits} exits of {engine.name}"
        advice = "write one per exit, or one"
        faults.append(Fault(path=(*place, "exit_when"), message=f"{message}: {advice}"))
    profiled = {
        "energy": all(stage.energy_j is not None for stage in engine.stages),
        "accuracy": all(stage.accuracy is not None for stage in engine.stages),
    }
    faults += [
        Fault(
            path=(*place, "bounds", name),
            message=f"the engine {engine.name} has no {name} in its profile:"
            f" run `delen profile {engine.folder}`, or leave this bound out",
        )
        for name, is_profiled in profiled.items()
        if getattr(policy.bounds, name) is not None and not is_profiled
    ]
    return faults
