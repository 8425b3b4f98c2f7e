"""Takes tasks in, has their stages run one after another, and says what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from appliance.budgets import Balance
from appliance.engine import Engine
from appliance.errors import Code, EngineError
from appliance.executor import Executor, StageOutput
from appliance.plan import StoppedBy, Wish, expected_gain
from appliance.quantities import Dimension, format_quantity
from appliance.scheduler import Scheduler
from appliance.task import Task


class Dispatcher:
    """Joins the scheduler with the executor. The same live and in a simulation.

    A turn is `decide`, then `run` for the batch that it gave, then `take` for what came of it.
    While a stage runs, `fire` may be called at `next_timer_s` from elsewhere; the other calls,
    and this one, must not overlap.

    `finished` is called with a task that has its answer, `rejected` with one that gets none,
    `unaffordable` with one for which a budget has no room. `failed` is called once for a run of a
    stage that raised, however many tasks were in it.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        executor: Executor,
        clock: Callable[[], float],
        finished: Callable[[Task], None],
        rejected: Callable[[Task, Code, str], None],
        unaffordable: Callable[[Task, Balance], None],
        failed: Callable[[Engine, EngineError], None],
    ) -> None:
        self.scheduler = Scheduler(times=executor.times, answer=self._answer, reject=self._reject)
        self._executor = executor
        self._tenancy = executor.tenancy
        self._clock = clock
        self._finished = finished
        self._rejected = rejected
        self._unaffordable = unaffordable
        self._running: list[Task] = []
        self._last_stage = 0
        """Up to which stage those that run do so without a decision in between."""
        self._failed = failed
        self._in_flight: Counter[int] = Counter()

    def submit(self, task: Task) -> None:
        """Takes a new task in."""
        now_s = self._clock()
        self._in_flight[id(task.plan.engine)] += 1
        self._tenancy.arrived(task, now_s)
        if self.scheduler.has_room_for_sample():
            task.sample = self._tenancy.steering.chooses(self._tenancy.in_mode(task.plan))
        if not self._is_unaffordable(task, now_s):
            self.scheduler.submit(task, now_s)

    def decide(self) -> list[Task]:
        """The tasks whose stage is to run next, as one batch; none where nothing may run."""
        while batch := self.scheduler.next(self._clock()):
            self._running = [
                task for task in batch if task.started_s is not None or self._may_begin(task)
            ]
            if self._running:
                self._last_stage = self._last_to_run(self._running)
                return self._running
        return []

    def run(self, batch: Sequence[Task]) -> StageOutput:
        """Runs the batch that `decide` gave; what it finds is for `take`.

        That is one stage, or several back to back where nothing is to be decided in between.
        """
        return self._executor.run(batch, last=self._last_stage)

    def take(self, batch: Sequence[Task], output: StageOutput) -> None:
        """Answers, turns away or queues again the tasks for which a stage has run."""
        self._running = []
        each_s = (output.ended_s - output.started_s) / len(batch)
        for task in batch:
            self.scheduler.shares.used(task.request.tenant, each_s, output.ended_s)
        for task, decision in self._executor.take(batch, output):
            if task.closed and isinstance(decision, EngineError):
                task.features = None
            elif task.closed:
                self._run_on(task, output.ended_s)
            elif isinstance(decision, EngineError):
                self._reject(task, Code.ENGINE_FAILED, str(decision))
            elif isinstance(decision, StoppedBy):
                self._answer(task, decision)
            else:
                self._resume(task, decision, output.ended_s)
        # What a frame makes of an engine's numbers says nothing of the engine: only what raises.
        raised = [answer for answer in output.answers if isinstance(answer, EngineError)]
        if raised:
            self._failed(batch[0].plan.engine, raised[0])

    def has_tasks_of(self, engine: Engine) -> bool:
        """Whether a task of an engine is to be answered, or to run on as a sample."""
        return id(engine) in self._in_flight or self.scheduler.room.has_samples_of(engine)

    def remove(self, engine: Engine) -> None:
        """Takes an engine out that has no task left; its backend is no longer asked."""
        self.scheduler.room.forget(engine)
        self._executor.remove(engine)

    def give_up_running(self, after_s: float) -> str:
        """Turns the tasks away whose stage has not ended for so long; the sentence that says so."""
        engine, first = self._running[0].plan.engine, self._running[0].next_stage
        limit = format_quantity(after_s, Dimension.TIME)
        last = self._last_stage
        ran = f"stage {first}" if last == first else f"a run of the stages {first} to {last}"
        sentence = f"{ran} of {engine.name} has not ended for {limit}"
        for task in self._running:
            if not task.closed:
                detail = f"{sentence} (DELEN_STAGE_TIMEOUT): the appliance starts anew"
                self._reject(task, Code.ENGINE_FAILED, detail)
        return sentence

    def fire(self) -> None:
        """Answers or turns away the tasks whose time has come, while a stage runs or between."""
        self.scheduler.fire(self._clock())

    def next_timer_s(self) -> float:
        """When `fire` is to be called next; infinite for never."""
        return self.scheduler.next_timer_s()

    def _resume(self, task: Task, wish: Wish, now_s: float) -> None:
        if task.metrics is None:
            raise ValueError(f"the task {task.request.id} has run no stage")
        gain = expected_gain(task.plan.engine, task.metrics, wish.exit)
        self.scheduler.resume(task, now_s, gain=gain)

    def _answer(self, task: Task, why: StoppedBy) -> None:
        now_s = self._close(task)
        task.stopped_by = why
        if task.metrics is not None:
            response_time_s = now_s - task.request.received_s
            task.metrics = task.metrics._replace(response_time=response_time_s)
            self._tenancy.answered(task, task.metrics, now_s)
        self._finished(task)
        if task.sample and not self._is_running(task):
            self._run_on(task, now_s)

    def _reject(self, task: Task, code: Code, detail: str) -> None:
        task.sample = False
        self._close(task)
        self._rejected(task, code, detail)

    def _run_on(self, task: Task, now_s: float) -> None:
        """Has a sample that was answered go on to the last exit, and learns of what that says."""
        said, exits = len(task.trajectory), len(task.plan.engine.stages)
        if said == exits:
            task.features = None
            self._tenancy.steering.learned(task)
        elif said == task.next_stage:
            self.scheduler.run_on(task, now_s)

    def _close(self, task: Task) -> float:
        task.answered_s = self._clock()
        task.answered_at = None if task.metrics is None else task.metrics.exit
        # The stage of one that runs is still to take them.
        if not task.sample and not self._is_running(task):
            task.features = None
        engine = id(task.plan.engine)
        self._in_flight[engine] -= 1
        if not self._in_flight[engine]:
            del self._in_flight[engine]
        return task.answered_s

    def _is_running(self, task: Task) -> bool:
        return any(task is running for running in self._running)

    def _last_to_run(self, batch: Sequence[Task]) -> int:
        """Up to which stage nothing is to be decided: by those that run, and by whoever comes."""
        first, last = batch[0].next_stage, self._executor.last_of_span(batch)
        if last > first and not self.scheduler.is_free_for(self._executor.span_s(batch, last)):
            return first
        return last

    def _may_begin(self, task: Task) -> bool:
        return not self._is_unaffordable(task, self._clock())

    def _is_unaffordable(self, task: Task, now_s: float) -> bool:
        """Turns a task away for which a budget has no room."""
        shortage = self._tenancy.shortage(task.plan, now_s)
        if shortage is not None:
            self._close(task)
            self._unaffordable(task, shortage)
        return shortage is not None
