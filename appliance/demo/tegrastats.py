"""A stand-in for tegrastats: prints a board's lines for a power curve, or for a process's load."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TextIO


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """How a board's lines look: what stands before the rails, and each rail's part of the whole."""

    before: str
    rails: Mapping[str, float]
    unit: str = "mW"
    has_date: bool = True
    has_input: bool = True
    """Whether one rail carries it all; else the rails add up to the whole."""

    def line(self, total_w: float, mean_w: float, moment: datetime) -> str:
        """One line, as the board prints it for a power and its mean since the start."""
        rails = []
        left_mw, left_mean_mw = round(total_w * 1e3), round(mean_w * 1e3)
        *first, last = self.rails
        for name in (*first, last):
            part = self.rails[name]
            now_mw, average_mw = round(total_w * part * 1e3), round(mean_w * part * 1e3)
            if name == last and not self.has_input:
                now_mw, average_mw = left_mw, left_mean_mw
            left_mw, left_mean_mw = left_mw - now_mw, left_mean_mw - average_mw
            rails.append(f"{name} {now_mw}{self.unit}/{average_mw}{self.unit}")
        date = f"{moment:%m-%d-%Y %H:%M:%S} " if self.has_date else ""
        return f"{date}{self.before} {' '.join(rails)}"


BOARDS = {
    "nano": Board(
        before="RAM 1655/3956MB (lfb 311x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB)"
        " CPU [12%@102,10%@102,11%@102,12%@102] EMC_FREQ 3%@1600 GR3D_FREQ 0%@76 APE 25"
        " PLL@36.5C CPU@39C PMIC@50C GPU@37C AO@47.5C thermal@38C",
        rails={"POM_5V_IN": 1.0, "POM_5V_GPU": 0.3, "POM_5V_CPU": 0.2},
        unit="",
        has_date=False,
    ),
    "xavier": Board(
        before="RAM 3216/15824MB (lfb 2629x4MB) SWAP 0/7912MB (cached 0MB) CPU [3%@1190,off]"
        " EMC_FREQ 0% GR3D_FREQ 0% AO@35.5C GPU@35C CPU@36C thermal@35.25C",
        rails={"GPU": 0.3, "CPU": 0.2, "SOC": 0.2, "CV": 0.0, "VDDRQ": 0.1, "SYS5V": 0.2},
        unit="",
        has_date=False,
        has_input=False,
    ),
    "orin-nano": Board(
        before="RAM 2985/7620MB (lfb 68x4MB) SWAP 116/3810MB (cached 0MB)"
        " CPU [1%@729,0%@729,0%@729,0%@729,0%@729,1%@729] GR3D_FREQ 0% cpu@56.343C soc2@53.437C"
        " soc0@54.406C gpu@55.125C tj@56.343C soc1@56C",
        rails={"VDD_IN": 1.0, "VDD_CPU_GPU_CV": 0.4, "VDD_SOC": 0.25},
    ),
    "thor": Board(
        before="RAM 86905/125772MB (lfb 368x4MB) CPU [12%@972,10%@972,off,33%@1890]"
        " cpu@39.812C tj@39.906C",
        rails={"VDD_GPU": 0.2, "VDD_CPU_SOC_MSS": 0.3, "VIN_SYS_5V0": 0.25, "VIN": 1.0},
    ),
}


class Source(Protocol):
    """Where the power comes from that is printed. Times in seconds since the start."""

    def power_w(self, now_s: float) -> float:
        """What a sensor would show."""

    def energy_j(self, now_s: float) -> float:
        """What was truly spent since the start."""


class Curve:
    """A power curve of straight lines between points, over and over."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self._points = points
        self._energies_j = [0.0]
        for (start_s, start_w), (end_s, end_w) in pairwise(points):
            area_j = (start_w + end_w) / 2 * (end_s - start_s)
            self._energies_j.append(self._energies_j[-1] + area_j)

    def power_w(self, now_s: float) -> float:
        return self._at(now_s % self._points[-1][0])[0]

    def energy_j(self, now_s: float) -> float:
        rounds, within_s = divmod(now_s, self._points[-1][0])
        return rounds * self._energies_j[-1] + self._at(within_s)[1]

    def _at(self, time_s: float) -> tuple[float, float]:
        index = bisect_right(self._points, time_s, key=lambda point: point[0]) - 1
        start_s, start_w = self._points[index]
        if index + 1 == len(self._points):
            return start_w, self._energies_j[index]
        end_s, end_w = self._points[index + 1]
        power_w = start_w + (end_w - start_w) * (time_s - start_s) / (end_s - start_s)
        return power_w, self._energies_j[index] + (start_w + power_w) / 2 * (time_s - start_s)


class Load:
    """So many watts for being there, and so many more for each core that a process keeps busy."""

    def __init__(self, pid: int, *, idle_w: float, busy_w: float) -> None:
        self._pid = pid
        self._idle_w = idle_w
        self._busy_w = busy_w
        self._cpu_s = _cpu_s(pid)
        self._worked_s = self._last_worked_s = self._last_s = 0.0

    def power_w(self, now_s: float) -> float:
        """The mean since the last time: a processor's load has no value at an instant."""
        self._take_in()
        worked_s = self._worked_s - self._last_worked_s
        elapsed_s = max(now_s - self._last_s, 1e-6)
        self._last_worked_s, self._last_s = self._worked_s, now_s
        return self._idle_w + self._busy_w * worked_s / elapsed_s

    def energy_j(self, now_s: float) -> float:
        return self._idle_w * now_s + self._busy_w * self._worked_s

    def _take_in(self) -> None:
        cpu_s = _cpu_s(self._pid)
        # Threads that have ended are not counted any more.
        self._worked_s += max(0.0, cpu_s - self._cpu_s)
        self._cpu_s = cpu_s


def _cpu_s(pid: int) -> float:
    """The processor time of a process's threads, in nanoseconds' steps."""
    total_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total_ns += int(path.read_text().partition(" ")[0])
        except (OSError, ValueError):
            continue  # it ended meanwhile
    return total_ns * 1e-9


def stand_in(  # noqa: PLR0913 - what a stand-in stands in for
    board: Board,
    source: Source,
    *,
    interval_s: float,
    out: TextIO,
    truth: TextIO | None,
    goes_on: Callable[[], bool],
) -> None:
    """Prints a line every interval, and writes the true energy beside it."""
    started_s = time.monotonic()
    due_s = started_s
    while goes_on():
        due_s += interval_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        monotonic_s = time.monotonic()
        now_s = monotonic_s - started_s
        total_w = source.power_w(now_s)
        energy_j = source.energy_j(now_s)
        line = board.line(total_w, energy_j / now_s, datetime.now().astimezone())
        print(line, file=out, flush=True)
        if truth is not None:
            print(json.dumps({"time_s": monotonic_s, "energy_j": energy_j}), file=truth, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m appliance.demo.tegrastats", description=__doc__
    )
    parser.add_argument("--interval", type=float, default=1000, metavar="MILLISECONDS")
    parser.add_argument("--board", choices=BOARDS, default="orin-nano")
    parser.add_argument("--curve", type=Path, metavar="CSV", help="lines of seconds, watts")
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="whose load; by default, of whoever started it"
    )
    parser.add_argument("--idle", type=float, default=4.5, metavar="WATTS")
    parser.add_argument("--busy", type=float, default=3.0, metavar="WATTS", help="for each core")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="the true joules, line by line")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    pid = arguments.follow or os.getppid()
    source: Source
    if arguments.curve is None:
        source = Load(pid, idle_w=arguments.idle, busy_w=arguments.busy)
    else:
        with arguments.curve.open(newline="") as file:
            source = Curve([(float(time_s), float(watts)) for time_s, watts in csv.reader(file)])
    truth = None if arguments.truth is None else arguments.truth.open("a")
    stand_in(
        BOARDS[arguments.board],
        source,
        interval_s=arguments.interval / 1e3,
        out=sys.stdout,
        truth=truth,
        goes_on=Path(f"/proc/{pid}").exists,
    )


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.stderr.close()
