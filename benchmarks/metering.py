"""What reading power and accounting for it costs a serving appliance."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.demo.sensor import Sensor, frames_of
from appliance.manifest import load
from appliance.power.meters import MeterOptions
from appliance.power.protocol import Reading
from appliance.power.sampler import Sampler
from appliance.session import Session
from benchmarks.metered_minute import stand_in
from benchmarks.report import Finding, report, tell
from benchmarks.rig import running_appliance

GOAL = 0.02
INTERVAL_S = 0.1
SECONDS, ROUNDS = 10.0, 3
RATE_HZ = 10.0
POLICY = "tenant: gate\nversion: 1\nengine: digits\n"
ENGINES = Path("engines")


def measure() -> Finding:
    tell("metering: the sampling thread alone")
    thread = _sampler_share()
    idle: list[float] = []
    serving: list[float] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as parts:
        # Side by side, so that the machine's moods meet both.
        metered = parts.enter_context(_served(Path(name) / "metered", meter="tegrastats"))
        modelled = parts.enter_context(_served(Path(name) / "modelled", meter="modelled"))
        for number in range(ROUNDS):
            tell(f"metering: round {number + 1} of {ROUNDS}, with a meter and without")
            idle.append(_difference(metered.pid, modelled.pid))
            for side in (metered, modelled):
                side.start()
            serving.append(_difference(metered.pid, modelled.pid))
            for side in (metered, modelled):
                side.stop()
    idle_share, serving_share = (sorted(shares)[ROUNDS // 2] for shares in (idle, serving))
    worst = max(thread, idle_share, serving_share)
    return Finding(
        name="metering",
        figure=round(100 * worst, 2),
        unit="% of a core at 10 Hz",
        goal=f"< {GOAL:.0%}",
        met=worst < GOAL,
        measured={
            "sampling_thread_percent": round(100 * thread, 3),
            "appliance_idle_beyond_modelled_percent": round(100 * idle_share, 3),
            "appliance_serving_beyond_modelled_percent": round(100 * serving_share, 3),
            "requests_per_second_while_serving": RATE_HZ,
            "seconds_of_each": SECONDS,
            "rounds": ROUNDS,
            "without": "the stand-in's own processor time, as a process of its own",
        },
    )


class _Side:
    """One appliance, and a sensor that sends to it from `start` to `stop`."""

    def __init__(self, pid: int, client: Session) -> None:
        self.pid = pid
        self._client = client
        self._frames = frames_of(load(ENGINES / "digits"))
        self._sensor: Sensor | None = None

    def start(self) -> None:
        self._sensor = Sensor(
            "gate",
            client=self._client,
            frames=self._frames,
            rate_hz=RATE_HZ,
            replied=lambda _reply, _label: None,
        )
        self._sensor.start()

    def stop(self) -> None:
        if self._sensor is not None:
            self._sensor.stop()


@contextmanager
def _served(folder: Path, *, meter: str) -> Iterator[_Side]:
    folder.mkdir()
    settings = {"METER": meter, "TEGRASTATS": stand_in()}
    with (
        Mosquitto(folder=folder / "broker") as broker,
        running_appliance(
            broker, folder, engines=ENGINES, policies={"gate": POLICY}, settings=settings
        ) as child,
        Session(BrokerAddress(host=broker.host, port=broker.port)) as client,
    ):
        child.check()
        side = _Side(child.pid or 0, client)
        try:
            yield side
        finally:
            side.stop()


def _difference(metered: int, modelled: int) -> float:
    """By how much of a core one process was busier than another, over the same seconds."""
    before_s = _cpu_s(metered) - _cpu_s(modelled)
    time.sleep(SECONDS)
    return (_cpu_s(metered) - _cpu_s(modelled) - before_s) / SECONDS


def _cpu_s(pid: int) -> float:
    """The processor time of a process's threads; they live as long as it does."""
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().partition(" ")[0]) for path in paths) * 1e-9


def _sampler_share() -> float:
    """The part of a core that the sampling thread takes, the stand-in's own not counted."""
    times_s: list[float] = []

    def deliver(_reading: Reading) -> None:
        times_s.append(time.thread_time())

    options = MeterOptions(interval_s=INTERVAL_S, tegrastats=stand_in())
    started_s = time.monotonic()
    with Sampler("tegrastats", options=options, deliver=deliver):
        while not times_s and time.monotonic() - started_s < SECONDS:
            time.sleep(INTERVAL_S)
        started_s = time.monotonic()
        time.sleep(SECONDS)
        elapsed_s = time.monotonic() - started_s
    return (times_s[-1] - times_s[0]) / elapsed_s


if __name__ == "__main__":
    report(measure())
