"""The system under test: an appliance that is asked over MQTT, and what it replied."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue

from typing_extensions import Self

from appliance.errors import LoadError
from appliance.load.samples import Sample
from appliance.messages import Rejection, Reply
from appliance.session import Session

WARM_UP = 24
"""How many samples are sent one after the other, and how many again at once, to warm up."""

LATE_REPLIES_S = 30.0
"""How long a run waits at its end for replies that it had given up."""


class Target:
    """Sends samples and keeps every reply, in the order of issue, for one run at a time.

    `timeout_s` after a sample was sent it is given up. With `outstanding`, `issue` waits while as
    many are on their way. `completed` is called with a query's id, on another thread, as soon as
    its reply is there or given up.
    """

    def __init__(
        self,
        client: Session,
        samples: Sequence[Sample],
        *,
        timeout_s: float,
        outstanding: int | None,
        completed: Callable[[int], None],
    ) -> None:
        self.replies: list[tuple[Sample, Reply | None]] = []
        """What was issued so far, with what was replied; None for what has no reply."""
        self._client = client
        self._samples = samples
        self._timeout_s = timeout_s
        self._completed = completed
        self._room = None if outstanding is None else threading.Semaphore(outstanding)
        self._waiting: dict[int, int] = {}
        self._sent: SimpleQueue[tuple[float, int, Future[Reply]] | None] = SimpleQueue()
        self._given_up: list[Future[Reply]] = []
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._give_up, name="timeouts")

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for late replies, so that the next run does not stand in line behind this one."""
        self._ended.set()
        self._sent.put(None)
        self._clock.join()
        wait(self._given_up, timeout=LATE_REPLIES_S)

    def issue(self, queries: Sequence[tuple[int, int]]) -> None:
        """Sends samples, each given as the id of a query and the sample's index."""
        for query, index in queries:
            if self._room is not None:
                self._room.acquire()
            number = len(self.replies)
            sample = self._samples[index]
            self.replies.append((sample, None))
            self._waiting[number] = query
            reply = self._client.submit(sample.tenant, sample.frame.payload)
            self._sent.put((time.monotonic() + self._timeout_s, number, reply))
            reply.add_done_callback(partial(self._replied, number))

    def _replied(self, number: int, reply: Future[Reply]) -> None:
        query = self._waiting.pop(number, None)
        if query is None:
            return
        self.replies[number] = self.replies[number][0], reply.result()
        self._complete(query)

    def _give_up(self) -> None:
        # All wait equally long: who was sent first is given up first.
        while (sent := self._sent.get()) is not None:
            deadline_s, number, reply = sent
            while number in self._waiting and (left_s := deadline_s - time.monotonic()) > 0.0:
                if self._ended.wait(left_s):
                    break
            query = self._waiting.pop(number, None)
            if query is not None:
                self._given_up.append(reply)
                self._complete(query)

    def _complete(self, query: int) -> None:
        if self._room is not None:
            self._room.release()
        self._completed(query)


def warm_up(
    client: Session, samples: Sequence[Sample], *, timeout_s: float, outstanding: int
) -> tuple[float, float]:
    """The median latency of samples one by one in seconds, and their rate with many on their way.

    Raises LoadError where the appliance turns one away, and BrokerError where none replies.
    """
    chosen = [samples[number % len(samples)] for number in range(WARM_UP)]
    latencies_s = []
    for sample in chosen:
        started_s = time.perf_counter()
        reply = client.infer(sample.tenant, sample.frame.payload, timeout_s=timeout_s)
        latencies_s.append(time.perf_counter() - started_s)
        _require_answer(reply)
    started_s = time.perf_counter()
    for first in range(0, WARM_UP, outstanding):
        sent = [
            client.submit(sample.tenant, sample.frame.payload)
            for sample in chosen[first : first + outstanding]
        ]
        wait(sent, timeout=timeout_s)
    return statistics.median(latencies_s), WARM_UP / (time.perf_counter() - started_s)


def _require_answer(reply: Reply) -> None:
    if isinstance(reply, Rejection):
        raise LoadError(
            f"the appliance turns the frames of {reply.tenant} away: {reply.code}"
            f" {reply.reason}: {reply.detail}"
        )
