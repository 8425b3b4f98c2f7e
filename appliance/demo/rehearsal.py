"""A rehearsal: a few frames through the whole appliance, to see how fast this machine is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotInTime
from itertools import cycle, islice

import numpy as np

from appliance.demo.fleet import FleetManager
from appliance.demo.policies import REHEARSAL, Change, Pace
from appliance.demo.sensor import LabelledFrame
from appliance.errors import ServiceError
from appliance.messages import Result
from appliance.session import Session

FRAMES = 60
"""How many frames are sent under each policy."""

REPLY_TIMEOUT_S = 10.0


def rehearse(
    policies: Change, *, frames: Sequence[LabelledFrame], client: Session, fleet: FleetManager
) -> Pace:
    """Puts the policies in force one after the other, and sends frames under each.

    Raises ServiceError where the appliance turns a policy or a frame away.
    """
    fleet.put_in_force([policies.before])
    # In pairs, as though another tenant's frame came at the same moment.
    shallow = _results(client, frames, at_once=2)
    fleet.put_in_force([policies.after])
    deepest = _results(client, frames, at_once=1)
    return Pace(
        shallow_p99_s=_response_time_s(shallow, 99),
        deepest_p50_s=_response_time_s(deepest, 50),
        deepest_p99_s=_response_time_s(deepest, 99),
        deepest_j=float(np.median([result.energy_mj or 0.0 for result in deepest])) * 1e-3,
    )


def _response_time_s(results: Sequence[Result], percent: float) -> float:
    return float(np.percentile([result.response_time_ms for result in results], percent)) * 1e-3


def _results(client: Session, frames: Sequence[LabelledFrame], *, at_once: int) -> list[Result]:
    endless, results = cycle(frames), list[Result]()
    while len(results) < FRAMES:
        batch = islice(endless, at_once)
        sent = [client.submit(REHEARSAL, frame.payload) for frame in batch]
        try:
            replies = [reply.result(REPLY_TIMEOUT_S) for reply in sent]
        except NotInTime:
            sentence = f"the appliance does not answer within {REPLY_TIMEOUT_S:.0f} s"
            raise ServiceError(sentence) from None
        for reply in replies:
            if not isinstance(reply, Result):
                raise ServiceError(f"the appliance turns the demo's frames away: {reply.detail}")
            results.append(reply)
    return results
