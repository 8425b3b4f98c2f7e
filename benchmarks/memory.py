"""How much memory a serving appliance takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.session import Session
from benchmarks.report import Finding, report, tell
from benchmarks.rig import running_appliance

GOAL_MB = 250
ENGINES = Path("engines")
REQUESTS = 500
POLICY = "tenant: gate\nversion: 1\nengine: digits\n"


def measure() -> Finding:
    paths = sorted((ENGINES / "digits" / "frames").rglob("*.jpg"))
    with tempfile.TemporaryDirectory() as name, Mosquitto(folder=Path(name) / "broker") as broker:
        folder = Path(name)
        with (
            running_appliance(broker, folder, engines=ENGINES, policies={"gate": POLICY}) as child,
            Session(BrokerAddress(host=broker.host, port=broker.port)) as client,
        ):
            process = psutil.Process(child.pid)
            at_start = process.memory_full_info()
            for number in range(REQUESTS):
                if number % 100 == 0:
                    tell(f"memory: {number} of {REQUESTS} requests")
                client.infer("gate", paths[number % len(paths)].read_bytes())
            after = process.memory_full_info()
            threads = process.num_threads()
    resident_mb = after.rss / 1e6
    return Finding(
        name="memory",
        figure=round(resident_mb, 1),
        unit="MB resident",
        goal=f"< {GOAL_MB}",
        met=resident_mb < GOAL_MB,
        measured={
            "at_start_mb": round(at_start.rss / 1e6, 1),
            "own_mb": round(after.uss / 1e6, 1),
            "threads": threads,
            "requests": REQUESTS,
            "engine": "digits",
        },
    )


if __name__ == "__main__":
    report(measure())
