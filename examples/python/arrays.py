"""Arrays that are the engine's ready input, one row of a file each: python arrays.py FRAMES.npy"""

import sys

import numpy as np

from appliance.client import Client, RequestRejected

frames = np.load(sys.argv[1])
times_ms = []
with Client.from_settings(tenant="gate") as client:
    for number, frame in enumerate(frames):
        try:
            result = client.answer(frame)
        except RequestRejected as error:
            print(f"{number}: {error}; {error.rejection.retry_at or 'do not send it again'}")
            continue
        print(f"{number}: {result.label} ({result.confidence:.0%}), {result.energy_mj} mJ")
        times_ms.append(result.response_time_ms)
if times_ms:
    print(f"median of the response times: {np.median(times_ms):.1f} ms")
