"""The scheduler: no task lost, none twice, the urgent first, each queue within its limit."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.plan import Plan
from appliance.scheduler import Scheduler
from appliance.task import Task
from tests.factories import a_plan, a_task


def plan_of(tenant: str = "gate", **fields: object) -> Plan:
    return a_plan("\n".join(f"{name}: {value}" for name, value in fields.items()), tenant=tenant)


def drained(scheduler: Scheduler) -> list[str]:
    names = []
    while (task := scheduler.next()) is not None:
        task.started_s = 0.0
        names.append(task.request.id)
    return names


def test_the_earliest_deadline_runs_first() -> None:
    scheduler = Scheduler()
    slow, fast = plan_of(bounds="{response_time: 500ms}"), plan_of(bounds="{response_time: 20ms}")

    scheduler.submit(a_task("slow", plan=slow, received_s=0.0))
    scheduler.submit(a_task("fast", plan=fast, received_s=0.1))

    assert drained(scheduler) == ["fast", "slow"]


def test_a_higher_priority_goes_before_an_earlier_deadline() -> None:
    scheduler = Scheduler()

    scheduler.submit(a_task("low", plan=plan_of(bounds="{response_time: 1ms}")))
    scheduler.submit(a_task("high", plan=plan_of(priority=1)))

    assert drained(scheduler) == ["high", "low"]


def test_a_task_without_a_bound_waits_for_urgent_ones_but_not_for_ever() -> None:
    scheduler = Scheduler()
    urgent = plan_of("camera", bounds="{response_time: 50ms}")

    scheduler.submit(a_task("patient", plan=plan_of(), received_s=0.0))
    for number in range(20):
        scheduler.submit(a_task(f"{number}", plan=urgent, received_s=number * 0.1))

    order = drained(scheduler)
    assert order.index("patient") == 10


def test_equal_deadlines_keep_the_order_of_arrival() -> None:
    scheduler = Scheduler()
    for number in range(10):
        scheduler.submit(a_task(str(number)))

    assert drained(scheduler) == [str(number) for number in range(10)]


def test_a_full_queue_sheds_the_oldest_waiting_task() -> None:
    scheduler = Scheduler()
    plan = plan_of(queue="{limit: 2, full: drop-oldest}")

    shed = [scheduler.submit(a_task(name, plan=plan)) for name in "abcd"]

    assert [task and task.request.id for task in shed] == [None, None, "a", "b"]
    assert drained(scheduler) == ["c", "d"]


def test_a_full_queue_that_rejects_sheds_the_new_task() -> None:
    scheduler = Scheduler()
    plan = plan_of(queue="{limit: 1, full: reject}")

    shed = [scheduler.submit(a_task(name, plan=plan)) for name in "ab"]

    assert [task and task.request.id for task in shed] == [None, "b"]
    assert drained(scheduler) == ["a"]


def test_one_tenants_flood_sheds_only_its_own() -> None:
    scheduler = Scheduler()
    quiet, loud = plan_of("quiet"), plan_of("loud", queue="{limit: 2, full: drop-oldest}")
    scheduler.submit(a_task("quiet", plan=quiet))

    for number in range(100):
        scheduler.submit(a_task(str(number), plan=loud))

    assert drained(scheduler) == ["quiet", "98", "99"]


def test_a_task_that_has_started_is_never_shed_and_goes_on() -> None:
    scheduler = Scheduler()
    plan = plan_of(queue="{limit: 1, full: drop-oldest}")
    scheduler.submit(a_task("first", plan=plan))
    first = scheduler.next()
    assert first is not None
    first.started_s = 0.0
    scheduler.resume(first)

    shed = [scheduler.submit(a_task(name, plan=plan)) for name in "ab"]

    assert [task and task.request.id for task in shed] == [None, "a"]
    assert drained(scheduler) == ["first", "b"]


def test_a_flood_that_is_shed_does_not_fill_the_memory() -> None:
    scheduler = Scheduler()
    scheduler.submit(a_task("important", plan=plan_of("vip", priority=1)))
    loud = plan_of("loud", queue="{limit: 4, full: drop-oldest}")

    for number in range(10_000):
        scheduler.submit(a_task(str(number), plan=loud, received_s=float(number)))

    assert len(scheduler) == 5
    assert len(scheduler._ready) < 100  # noqa: SLF001 - memory is what this is about


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["submit", "submit", "next", "resume"]),
            st.sampled_from(["a", "b", "c"]),
            st.integers(0, 5),
        ),
        max_size=80,
    )
)
def test_every_task_comes_out_exactly_once_or_is_shed(
    moves: list[tuple[str, str, int]],
) -> None:
    plans = {
        "a": plan_of("a", queue="{limit: 3, full: drop-oldest}"),
        "b": plan_of("b", queue="{limit: 2, full: reject}", priority=1),
        "c": plan_of("c", bounds="{response_time: 10ms}"),
    }
    scheduler = Scheduler()
    submitted: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    running: list[Task] = []
    for number, (move, tenant, time) in enumerate(moves):
        if move == "submit":
            task = a_task(f"{tenant}{number}", plan=plans[tenant], received_s=time / 100)
            submitted[task.request.id] += 1
            shed = scheduler.submit(task)
            if shed is not None:
                assert shed.started_s is None
                assert shed.request.tenant == tenant
                gone[shed.request.id] += 1
        elif move == "next":
            taken = scheduler.next()
            if taken is not None:
                taken.started_s = 0.0
                running.append(taken)
        elif running:
            scheduler.resume(running.pop())
        limits = scheduler.queue_lengths()
        assert limits.get("a", 0) <= 3
        assert limits.get("b", 0) <= 2
        assert len(scheduler) + len(running) + sum(gone.values()) == sum(submitted.values())

    gone.update(drained(scheduler))
    gone.update(task.request.id for task in running)
    assert gone == submitted
    assert len(scheduler) == 0
