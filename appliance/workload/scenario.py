"""Plays a load to policies on one simulated device."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from appliance.adaptation import ModeChange
from appliance.device_budget import DeviceBudget
from appliance.engine import Engine
from appliance.errors import Code, WorkloadError
from appliance.plan import Plan
from appliance.simulation import Answers, SimulatedRequest, Simulation
from appliance.task import Task
from appliance.workload.network import Network, network_of
from appliance.workload.pace import StagePace
from appliance.workload.tally import Frame, Tally
from appliance.workload.trace import Arrival


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of a load."""

    tallies: Mapping[str, Tally]
    """By tenant."""
    seconds: float
    """How long it took, on the simulated clock."""
    busy: float
    """The fraction of that in which the device worked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """How the simulated device differs from the profiled one, and by which seed."""

    pace: float = 1.0
    """How many times slower its stages are than the profile says."""
    noisy: bool = True
    """Whether stage times spread as the profile says, or are its medians."""
    budget: DeviceBudget | None = None
    seed: int = 1


class Scenario:
    """Policies on one device, ready for a load. It is played once."""

    def __init__(self, plans: Mapping[str, Plan], machine: Machine) -> None:
        self.networks = _networks(plans, machine.seed)
        self._plans = plans
        self._sources = {
            tenant: _Frames(self.networks[plan.engine.name], tenant, machine.seed)
            for tenant, plan in plans.items()
        }
        self._tallies = {
            tenant: Tally(plan=plan, recorded=self.networks[plan.engine.name].recorded)
            for tenant, plan in plans.items()
        }
        self._frames: dict[str, Frame] = {}
        self._simulation = Simulation(
            finished=self._finished, rejected=self._rejected, changed=self._changed
        )
        budgets = self._simulation.tenancy.budgets
        budgets.weights = lambda: {name: plan.policy.weight for name, plan in plans.items()}
        budgets.set_device(machine.budget)
        self._paces = [
            StagePace(network.engine, pace=machine.pace, noisy=machine.noisy, seed=machine.seed)
            for network in self.networks.values()
        ]
        for network, pace in zip(self.networks.values(), self._paces, strict=True):
            self._simulation.add(network.engine, pace.duration_s)
        self._simulation.put_in_force(plans)

    def play(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Plays requests of these tenants, in the order of their times.

        Raises WorkloadError for one that asks for what its network has no frame of.
        """
        self._simulation.run(self._requests(arrivals))
        now_s = self._simulation.now_s
        energy = self._simulation.tenancy.energy
        for tenant, tally in self._tallies.items():
            tally.close(now_s, energy.spent_j(tenant))
        busy_s = sum(pace.busy_s for pace in self._paces)
        busy = busy_s / now_s if now_s > 0.0 else 0.0
        return Outcome(tallies=self._tallies, seconds=now_s, busy=busy)

    def _requests(self, arrivals: Iterable[Arrival]) -> Iterator[SimulatedRequest]:
        for number, arrival in enumerate(arrivals):
            name = str(number)
            answers, self._frames[name] = self._sources[arrival.tenant].next(arrival)
            self._tallies[arrival.tenant].came(arrival.at_s)
            yield SimulatedRequest(
                at_s=arrival.at_s, tenant=arrival.tenant, answers=answers, name=name
            )

    def _finished(self, task: Task) -> None:
        frame = self._frames.pop(task.request.id)
        self._tallies[task.request.tenant].answered(task, frame)

    def _rejected(self, task: Task, code: Code, _detail: str) -> None:
        del self._frames[task.request.id]
        self._tallies[task.request.tenant].turned_away(task, code)

    def _changed(self, change: ModeChange, now_s: float) -> None:
        self._tallies[change.tenant].changed(change.after, now_s)


def _networks(plans: Mapping[str, Plan], seed: int) -> dict[str, Network]:
    engines: dict[str, Engine] = {plan.engine.name: plan.engine for plan in plans.values()}
    for tenant, plan in plans.items():
        if engines[plan.engine.name] is not plan.engine:
            raise WorkloadError(
                f"the engine of {tenant} has the name of another one, {plan.engine.name}: rename it"
            )
    return {name: network_of(engine, seed) for name, engine in engines.items()}


class _Frames:
    """Chooses what a tenant's requests show."""

    def __init__(self, network: Network, tenant: str, seed: int) -> None:
        self._network = network
        self._chance = random.Random(f"frames {seed} {tenant}")
        self._rows = list(network.answers)
        shown, seen = network.classes.tolist(), network.answers[:, -1].argmax(axis=1).tolist()
        self._frames = [Frame(*frame) for frame in zip(shown, seen, strict=True)]
        self._of_label: dict[str, list[int]] = {}

    def next(self, arrival: Arrival) -> tuple[Answers, Frame]:
        """What the network answers to a request's frame, and what there is to be seen in it."""
        engine = self._network.engine
        if arrival.answers is not None:
            if len(arrival.answers) != len(engine.stages):
                raise WorkloadError(
                    f"a request of {arrival.tenant} has answers of {len(arrival.answers)} exits,"
                    f" but {engine.name} has {len(engine.stages)}"
                )
            known = arrival.label is not None and arrival.label in engine.labels
            shows = engine.labels.index(arrival.label or "") if known else None
            return arrival.answers, Frame(shows, int(arrival.answers[-1].argmax()))
        if arrival.label is None:
            number = int(self._chance.random() * len(self._rows))
        else:
            number = self._chance.choice(self._showing(arrival.label))
        return self._rows[number], self._frames[number]

    def _showing(self, label: str) -> list[int]:
        numbers = self._of_label.get(label)
        if numbers is None:
            shown = [self._network.engine.label(frame.shows or 0) for frame in self._frames]
            numbers = [number for number, one in enumerate(shown) if one == label]
            self._of_label[label] = numbers
        if not numbers:
            raise WorkloadError(
                f"no frame of {self._network.engine.name} shows the label {label}:"
                f" labels here: {', '.join(self._network.engine.labels) or 'numbers of classes'}"
            )
        return numbers
