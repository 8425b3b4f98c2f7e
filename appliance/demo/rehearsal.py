"""A rehearsal: a few frames through the whole appliance, to see how fast this machine is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotInTime
from itertools import cycle, islice

import numpy as np

from appliance.client import Client
from appliance.demo.fleet import FleetManager
from appliance.demo.policies import REHEARSAL, Change, Pace
from appliance.demo.sensor import LabelledFrame
from appliance.errors import ServiceError
from appliance.messages import Result

FRAMES = 60
"""How many frames are sent under each policy."""

REPLY_TIMEOUT_S = 10.0


def rehearse(
    policies: Change, *, frames: Sequence[LabelledFrame], client: Client, fleet: FleetManager
) -> Pace:
    """Puts the policies in force one after the other, and sends frames under each.

    Raises ServiceError where the appliance turns a policy or a frame away.
    """
    fleet.put_in_force([policies.before])
    # In pairs, as though another tenant's frame came at the same moment.
    shallow_s = _response_times_s(client, frames, at_once=2)
    fleet.put_in_force([policies.after])
    deepest_s = _response_times_s(client, frames, at_once=1)
    return Pace(
        shallow_p99_s=float(np.percentile(shallow_s, 99)),
        deepest_p50_s=float(np.percentile(deepest_s, 50)),
        deepest_p99_s=float(np.percentile(deepest_s, 99)),
    )


def _response_times_s(
    client: Client, frames: Sequence[LabelledFrame], *, at_once: int
) -> list[float]:
    endless, times_s = cycle(frames), list[float]()
    while len(times_s) < FRAMES:
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
            times_s.append(reply.response_time_ms * 1e-3)
    return times_s
