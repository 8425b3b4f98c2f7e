"""The scheduler: who runs next, who is answered, who is turned away."""

from __future__ import annotations

import pytest

from appliance.engine import Latency
from appliance.errors import Code
from appliance.plan import Plan, StoppedBy, Wish
from appliance.scheduler import Scheduler
from appliance.stage_times import StageTimes
from appliance.task import Task
from tests.factories import a_plan, a_request, an_engine, metrics_at

ENGINE = an_engine(accuracies=(0.5, 0.7, 0.8, 0.9))
"""Four stages of 10 ms each."""


def plan_of(tenant: str = "gate", **fields: object) -> Plan:
    text = "\n".join(f"{name}: {value}" for name, value in fields.items())
    return a_plan(text, engine=ENGINE, tenant=tenant)


def bounded(milliseconds: int, tenant: str = "gate", **fields: object) -> Plan:
    return plan_of(tenant, bounds=f"{{response_time: {milliseconds}ms}}", **fields)


class Bench:
    """A scheduler at a moment, and what it says of tasks."""

    def __init__(self, *, batches: dict[int, float] | None = None) -> None:
        engine = ENGINE
        if batches is not None:
            engine = an_engine(accuracies=(0.5, 0.7, 0.8, 0.9))
            latency = {
                size: Latency(p50_s=time_s, p95_s=time_s) for size, time_s in batches.items()
            }
            for stage in engine.stages:
                object.__setattr__(stage, "latency", latency)
        self.times = StageTimes(engine)
        self.now_s = 0.0
        self.answered: list[tuple[str, StoppedBy]] = []
        self.rejected: list[tuple[str, Code]] = []
        self.details: list[str] = []
        self.scheduler = Scheduler(
            times=lambda _engine: self.times, answer=self._answer, reject=self._reject
        )

    def submit(self, name: str, plan: Plan | None = None, *, at_s: float | None = None) -> Task:
        plan = plan or plan_of()
        received_s = self.now_s if at_s is None else at_s
        request = a_request(name, tenant=plan.policy.tenant, received_s=received_s)
        task = Task(request=request, plan=plan, features=None)
        self.scheduler.submit(task, self.now_s)
        return task

    def next(self) -> list[str]:
        batch = self.scheduler.next(self.now_s)
        for task in batch:
            task.started_s = self.now_s
        return [task.request.id for task in batch]

    def drained(self) -> list[str]:
        names = []
        while batch := self.next():
            names += batch
        return names

    def resume(self, task: Task, *, gain: float = 0.1, for_floor: bool = False) -> None:
        """Queues a task again as it is after its next stage."""
        task.started_s = self.now_s
        task.metrics = metrics_at(task.next_stage, engine=ENGINE)
        task.wish = Wish(task.next_stage, for_floor=for_floor)
        self.scheduler.resume(task, self.now_s, gain=gain)

    def _answer(self, task: Task, why: StoppedBy) -> None:
        task.answered_s = self.now_s
        self.answered.append((task.request.id, why))

    def _reject(self, task: Task, code: Code, detail: str) -> None:
        task.answered_s = self.now_s
        self.rejected.append((task.request.id, code))
        self.details.append(detail)


def test_the_earliest_deadline_runs_first() -> None:
    bench = Bench()

    bench.submit("slow", bounded(500), at_s=-0.1)
    bench.submit("fast", bounded(60))

    assert bench.drained() == ["fast", "slow"]


def test_a_higher_priority_goes_before_an_earlier_deadline() -> None:
    bench = Bench()

    bench.submit("low", bounded(100))
    bench.submit("high", bounded(300, "vip", priority=1))

    assert bench.drained() == ["high", "low"]


def test_a_higher_priority_waits_where_an_admitted_task_would_be_late() -> None:
    bench = Bench()

    bench.submit("low", bounded(16))
    bench.submit("high", bounded(300, "vip", priority=1))

    assert bench.drained() == ["low", "high"]


def test_a_task_without_a_bound_waits_for_urgent_ones_but_not_for_ever() -> None:
    bench = Bench()
    bench.submit("patient", plan_of("patient"), at_s=-1.2)

    for number in range(3):
        bench.submit(f"{number}", bounded(100, "camera"))

    assert bench.drained()[0] == "patient"


def test_equal_deadlines_keep_the_order_of_arrival() -> None:
    bench = Bench()
    for number in range(10):
        bench.submit(str(number))

    assert bench.drained() == [str(number) for number in range(10)]


def test_what_is_owed_goes_before_what_is_optional() -> None:
    bench = Bench()
    first = bench.submit("first", bounded(100))
    bench.next()
    bench.resume(first)

    bench.submit("second", bounded(500))

    assert bench.drained() == ["second", "first"]


def test_the_optional_stage_that_adds_most_goes_first() -> None:
    bench = Bench()
    sure, unsure = bench.submit("sure", bounded(100)), bench.submit("unsure", bounded(300))
    bench.drained()

    bench.resume(sure, gain=0.01)
    bench.resume(unsure, gain=0.2)

    assert bench.drained() == ["unsure", "sure"]


def test_an_optional_stage_that_would_make_an_admitted_task_late_waits() -> None:
    bench = Bench()
    begun = bench.submit("begun", bounded(100))
    bench.next()
    bench.resume(begun)
    bench.submit("tight", bounded(15, "tight"))

    assert bench.next() == ["tight"]


def test_below_its_accuracy_floor_a_task_is_owed_the_next_stage() -> None:
    bench = Bench()
    below = bench.submit("below", plan_of(bounds="{response_time: 100ms, accuracy: 0.8}"))
    bench.next()

    bench.resume(below, for_floor=True)
    bench.submit("new", bounded(200))

    assert bench.drained() == ["below", "new"]


def test_a_task_whose_next_exit_would_be_too_late_is_answered_at_once() -> None:
    bench = Bench()
    task = bench.submit("task", bounded(40))
    bench.next()
    bench.now_s = 0.035

    bench.resume(task)

    assert bench.answered == [("task", StoppedBy.RESPONSE_TIME)]
    assert len(bench.scheduler) == 0


def test_a_waiting_task_is_answered_once_its_next_exit_no_longer_fits() -> None:
    bench = Bench()
    task = bench.submit("task", bounded(40))
    bench.next()
    bench.now_s = 0.010
    bench.resume(task)

    bench.now_s = 0.032

    assert bench.next() == []
    assert bench.answered == [("task", StoppedBy.RESPONSE_TIME)]


def test_before_a_stage_begins_whoever_is_due_within_it_is_answered() -> None:
    bench = Bench()
    waiting = bench.submit("waiting", bounded(22))
    bench.next()
    bench.now_s = 0.011
    bench.resume(waiting)

    bench.submit("new", bounded(13, "new"))

    assert bench.next() == ["new"]
    assert bench.answered == [("waiting", StoppedBy.RESPONSE_TIME)]


def test_a_task_that_runs_is_answered_at_its_time_from_the_exit_it_has() -> None:
    bench = Bench()
    task = bench.submit("task", bounded(40))
    bench.next()
    bench.now_s = 0.012
    bench.resume(task)
    bench.next()

    bench.now_s = bench.scheduler.next_timer_s()
    bench.scheduler.fire(bench.now_s)

    assert bench.answered == [("task", StoppedBy.RESPONSE_TIME)]
    assert 0.035 < bench.now_s < 0.040


def test_a_task_that_has_no_answer_at_its_time_is_turned_away_then() -> None:
    bench = Bench()
    bench.submit("task", bounded(40))
    bench.next()

    bench.now_s = bench.scheduler.next_timer_s()
    bench.scheduler.fire(bench.now_s)

    assert bench.rejected == [("task", Code.EXPIRED)]
    assert bench.now_s == pytest.approx(0.040)


def test_a_request_that_cannot_be_answered_in_time_is_turned_away_with_the_estimate() -> None:
    bench = Bench()
    for number in range(3):
        bench.submit(str(number), bounded(35))

    bench.submit("late", bounded(35))

    assert bench.rejected == [("late", Code.TOO_MANY)]
    assert bench.details[0].startswith("its first exit is some 40 ms away")
    assert "its bound is 35 ms" in bench.details[0]


def test_a_request_without_a_bound_is_never_turned_away_for_the_time_it_would_take() -> None:
    bench = Bench()

    for number in range(30):
        bench.submit(str(number))

    assert bench.rejected == []


def test_an_accuracy_floor_that_does_not_fit_gives_way() -> None:
    bench = Bench()

    bench.submit("task", plan_of(bounds="{response_time: 25ms, accuracy: 0.9}"))

    assert bench.rejected == []


def test_tasks_of_lower_priority_give_way_to_one_that_lacks_time() -> None:
    bench = Bench()
    for number in range(3):
        bench.submit(f"low {number}", bounded(35))

    bench.submit("high", bounded(35, "vip", priority=1))

    assert bench.rejected == [("low 0", Code.TOO_MANY)]
    assert sorted(bench.drained()) == ["high", "low 1", "low 2"]


def test_no_task_gives_way_in_vain() -> None:
    bench = Bench()
    for number in range(3):
        bench.submit(f"urgent {number}", bounded(35, priority=1))
    bench.submit("low", bounded(100, "low"))

    bench.submit("late", bounded(35, "late", priority=1))

    assert bench.rejected == [("late", Code.TOO_MANY)]
    assert len(bench.drained()) == 4


def test_a_bound_that_no_exit_keeps_is_tried_now_and_then() -> None:
    bench = Bench()
    outcomes = []
    for moment in range(10):
        bench.now_s = moment * 0.03
        bench.submit(str(moment), bounded(5))
        outcomes.append(bench.next())

    assert [batch for batch in outcomes if batch] == [["0"], ["4"], ["8"]]
    assert ("1", Code.TOO_MANY) in bench.rejected


def test_a_full_queue_sheds_the_oldest_waiting_task() -> None:
    bench = Bench()
    plan = plan_of(queue="{limit: 2, full: drop-oldest}")

    for name in "abcd":
        bench.submit(name, plan)

    assert bench.rejected == [("a", Code.TOO_MANY), ("b", Code.TOO_MANY)]
    assert bench.drained() == ["c", "d"]


def test_a_full_queue_that_rejects_sheds_the_new_task() -> None:
    bench = Bench()
    plan = plan_of(queue="{limit: 1, full: reject}")

    for name in "ab":
        bench.submit(name, plan)

    assert bench.rejected == [("b", Code.TOO_MANY)]
    assert bench.drained() == ["a"]


def test_a_full_queue_answers_a_task_that_has_an_answer_before_it_sheds_one() -> None:
    bench = Bench()
    plan = bounded(500, queue="{limit: 2, full: drop-oldest}")
    first = bench.submit("first", plan)
    bench.next()
    bench.resume(first)

    for name in "ab":
        bench.submit(name, plan)

    assert bench.answered == [("first", StoppedBy.LOAD)]
    assert bench.rejected == []


def test_one_tenants_flood_sheds_only_its_own() -> None:
    bench = Bench()
    bench.submit("quiet", plan_of("quiet"))

    for number in range(100):
        bench.submit(str(number), plan_of("loud", queue="{limit: 2, full: drop-oldest}"))

    assert bench.drained() == ["quiet", "98", "99"]


def test_tasks_for_the_same_stage_share_a_run_where_that_pays() -> None:
    bench = Bench(batches={1: 0.010, 4: 0.014})

    for number in range(6):
        bench.submit(str(number), bounded(500, f"tenant {number}"))

    assert bench.next() == ["0", "1", "2", "3"]
    assert bench.next() == ["4", "5"]


def test_tasks_do_not_share_a_run_where_that_does_not_pay() -> None:
    bench = Bench(batches={1: 0.010, 4: 0.039})

    for number in range(4):
        bench.submit(str(number), bounded(500))

    assert bench.next() == ["0"]


def test_tasks_do_not_share_a_run_that_would_be_too_long_for_one_of_them() -> None:
    bench = Bench(batches={1: 0.010, 4: 0.020})
    bench.submit("tight", bounded(20))

    for number in range(3):
        bench.submit(str(number), bounded(500))

    assert bench.next() == ["tight"]
    assert bench.next() == ["0", "1", "2"]


def test_what_has_an_answer_is_answered_before_the_appliance_stops() -> None:
    bench = Bench()
    task = bench.submit("task", bounded(500))
    bench.next()
    bench.resume(task)

    bench.scheduler.answer_all()

    assert bench.answered == [("task", StoppedBy.LOAD)]
    assert len(bench.scheduler) == 0
