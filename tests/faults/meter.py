"""A stand-in for tegrastats that talks nonsense while a file lies beside it.

Run as `python -m tests.faults.meter FILE --interval MILLISECONDS`.
"""

from __future__ import annotations

import math
import sys
import time
from datetime import datetime
from pathlib import Path

from appliance.demo.tegrastats import BOARDS

NONSENSE = "RAM ?/?MB VDD_IN -1e999mW/NaNmW \x00\xff"


def main() -> None:
    file, interval_s = Path(sys.argv[1]), float(sys.argv[-1]) / 1e3
    board, started_s = BOARDS["orin-nano"], time.monotonic()
    while True:
        time.sleep(interval_s)
        power_w = 5.0 + 2.0 * math.sin(time.monotonic() - started_s)
        line = board.line(power_w, 5.0, datetime.now().astimezone())
        print(NONSENSE if file.exists() else line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.stderr.close()
