"""The clock that jumps: only the wall's, and only in the process that it is given to."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults import wall_clock

SHOW = """
import time, datetime
time.sleep(0.001)
print(time.time(), datetime.datetime.now().timestamp())
"""


@pytest.mark.skipif(wall_clock.lacks() is not None, reason=str(wall_clock.lacks()))
def test_a_process_is_hours_away_and_still_sleeps(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    environment = wall_clock.environment(tmp_path, clock)
    wall_clock.set_to(clock, -7200)

    shown = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, stdout=subprocess.PIPE, check=True
    ).stdout

    for moment_s in map(float, shown.split()):
        assert moment_s - time.time() == pytest.approx(-7200, abs=60)
