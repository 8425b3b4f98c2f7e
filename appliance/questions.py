"""Frames that a session has sent and that have no reply yet."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field

from paho.mqtt.properties import Properties
from pydantic import ValidationError

from appliance.errors import BrokerError
from appliance.messages import REPLY, Reply


@dataclass(kw_only=True, slots=True, eq=False)
class Question:
    """A frame on its way, kept whole so that it can be sent again until its reply is there."""

    topic: str
    frame: bytes
    properties: Properties
    correlation: bytes = field(default_factory=lambda: uuid.uuid4().bytes)
    reply: Future[Reply] = field(default_factory=Future)


class Questions:
    """Those of one session, by their correlation data.

    Each ends once: with a reply, with an error, or because whoever waited cancelled its future.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[bytes, Question] = {}
        self._taken: set[bytes] = set()
        self._unheard: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, question: Question) -> None:
        with self._lock:
            self._open[question.correlation] = question
        question.reply.add_done_callback(lambda _: self._take(question.correlation))

    def asked(self, question: Question) -> None:
        """Notes that it is being sent: until the broker has it, paho repeats it by itself."""
        with self._lock:
            self._taken.discard(question.correlation)

    def taken(self, question: Question, *, heard: bool) -> None:
        """Notes that the broker has it, and whether somebody was there to hear it."""
        with self._lock:
            if question.correlation in self._open:
                self._taken.add(question.correlation)
                if not heard:
                    self._unheard.add(question.correlation)

    def forgotten_by_broker(self) -> list[Question]:
        """Those that a broker had which has lost its memory since."""
        with self._lock:
            return [self._open[correlation] for correlation in self._taken]

    def unheard(self) -> list[Question]:
        """Those that nobody was there to hear; each is given out once."""
        with self._lock:
            unheard = [self._open[correlation] for correlation in self._unheard]
            self._unheard.clear()
        return unheard

    def answer(self, correlation: bytes, payload: bytes) -> bool:
        """Ends one with the reply that came; False where it is none of these."""
        question = self._take(correlation)
        if question is None:
            return False
        if question.reply.set_running_or_notify_cancel():
            try:
                question.reply.set_result(REPLY.validate_json(payload))
            except ValidationError as error:
                question.reply.set_exception(BrokerError(f"the reply cannot be read: {error}"))
        return True

    def fail(self, question: Question, error: BrokerError) -> None:
        """Ends one with an error."""
        taken = self._take(question.correlation)
        if taken is not None and taken.reply.set_running_or_notify_cancel():
            taken.reply.set_exception(error)

    def fail_all(self, error: BrokerError) -> None:
        """Ends all with an error."""
        with self._lock:
            questions = list(self._open.values())
        for question in questions:
            self.fail(question, error)

    def _take(self, correlation: bytes) -> Question | None:
        with self._lock:
            self._taken.discard(correlation)
            self._unheard.discard(correlation)
            return self._open.pop(correlation, None)
