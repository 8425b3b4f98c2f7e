"""What becomes of requests: each reply is published and logged side by side."""

from __future__ import annotations

from collections.abc import Callable, Container

from appliance.budgets import Balance
from appliance.duplicates import InHand, new_id
from appliance.errors import Code, Rejected
from appliance.frame_memory import FrameMemory
from appliance.gateway import Gateway
from appliance.messages import Rejection, Reply, Request, RequestKey
from appliance.metrics.counters import Counters
from appliance.quantities import Dimension, format_quantity
from appliance.rejection_quota import Muted, RejectionQuota
from appliance.replies import iso, rejection_of, result_of
from appliance.store import Store
from appliance.task import Task
from appliance.topics import RESERVED
from appliance.windows import Windows


class Outcomes:
    """Answers and rejects, within the quota of rejections; called from several threads.

    `known` gives the tenants that have a policy. A rejection beyond its tenant's quota is not
    published, and its request is acknowledged at once; `log_muted` writes a row for all that were
    not, by tenant and code.
    """

    def __init__(  # noqa: PLR0913 - it is built in one place, by name
        self,
        *,
        appliance: str,
        gateway: Gateway,
        store: Store,
        in_hand: InHand,
        windows: Windows,
        counters: Counters,
        memory: FrameMemory,
        quota: RejectionQuota,
        known: Callable[[], Container[str]],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._appliance = appliance
        self._gateway = gateway
        self._store = store
        self._in_hand = in_hand
        self._windows = windows
        self._counters = counters
        self._memory = memory
        self._quota = quota
        self._known = known
        self._clock = clock
        self._wall_clock = wall_clock

    def finished(self, task: Task) -> None:
        """Answers a task that has its answer."""
        self._release(task)
        self._answer(task.request, task.key, result_of(task, self._appliance))

    def task_rejected(self, task: Task, code: Code, detail: str) -> None:
        """Rejects a task that gets no answer."""
        self._release(task)
        version = task.plan.policy.version
        self.reject(task.request, task.key, Rejected(code, detail), policy_version=version)

    def unaffordable(self, task: Task, balance: Balance) -> None:
        """Rejects a task for which a budget has no room."""
        self._release(task)
        energy = format_quantity(balance.energy_j, Dimension.ENERGY)
        period = format_quantity(balance.per_s, Dimension.TIME)
        again = iso(self._wall_clock() + balance.ends_in_s)
        detail = f"the budget of {energy} per {period} is spent: there is energy again at {again}"
        self.reject(
            task.request,
            task.key,
            Rejected(Code.TOO_MANY, detail),
            policy_version=task.plan.policy.version,
            retry_at=again,
        )

    def reject(
        self,
        request: Request,
        key: RequestKey | None,
        rejected: Rejected,
        policy_version: int | None = None,
        retry_at: str | None = None,
    ) -> None:
        """Turns a request away, and says so to its sender where the quota allows it."""
        if not self._may_say(request, rejected.code):
            self._gateway.settled(request.delivery)
            for follower in self._leave(key):
                self._may_say(follower, rejected.code)
                self._gateway.settled(follower.delivery)
            return
        reply = rejection_of(
            request,
            appliance=self._appliance,
            code=rejected.code,
            detail=rejected.detail,
            policy_version=policy_version,
            retry_at=retry_at,
        )
        self._answer(request, key, reply)

    def repeat(self, request: Request, reply: Reply) -> None:
        """Answers a request with what is in the log already."""
        if isinstance(reply, Rejection) and not self._may_say(request, reply.code):
            self._gateway.settled(request.delivery)
            return
        self._gateway.publish_reply(request, reply)
        self._gateway.logged(request.delivery)

    def logged(self, delivery: int, key: RequestKey | None, reply: Reply) -> None:
        """Called by the store's writer once a reply is safe in the log."""
        self._windows.take_in(reply, self._known())
        self._counters.take_in(reply)
        self._gateway.logged(delivery)
        self._repeat_to_followers(key, reply)

    def log_muted(self) -> None:
        """Logs the rejections that nobody was sent since the last time, a row for each kind."""
        for muted in self._quota.take_muted(self._known()):
            self._windows.take_in_muted(muted)
            self._counters.take_in_muted(muted)
            self._store.log(self._row_of(muted), delivery=0, key=None)

    def _row_of(self, muted: Muted) -> Rejection:
        limit = format_quantity(self._quota.rate_per_s, Dimension.RATE)
        now_s = self._wall_clock()
        return Rejection(
            id=new_id(now_s),
            tenant=RESERVED if muted.tenant is None else muted.tenant,
            stream=None,
            code=muted.code,
            reason=Code(muted.code).reason,
            detail=f"{muted.count} rejections of this code were not sent: the tenant had {limit}"
            " already (DELEN_REJECTION_RATE)",
            appliance=self._appliance,
            arrived_at=iso(now_s),
        )

    def _answer(self, request: Request, key: RequestKey | None, reply: Reply) -> None:
        self._gateway.publish_reply(request, reply)
        if not self._store.log(reply, delivery=request.delivery, key=key):
            self._repeat_to_followers(key, reply)

    def _repeat_to_followers(self, key: RequestKey | None, reply: Reply) -> None:
        for request in self._leave(key):
            self.repeat(request, reply)

    def _leave(self, key: RequestKey | None) -> list[Request]:
        return [] if key is None else self._in_hand.leave(key)

    def _may_say(self, request: Request, code: int) -> bool:
        return self._quota.allows(request.tenant, code, self._known(), self._clock())

    def _release(self, task: Task) -> None:
        self._memory.give_back(task.request.tenant, task.frame_bytes)
