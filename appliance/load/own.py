"""A broker and an appliance of the benchmark's own, as child processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance.broker import Mosquitto
from appliance.connection import BrokerAddress
from appliance.demo.child import Appliance
from appliance.demo.fleet import FleetManager
from appliance.session import Session

NAME = "bench"


@contextmanager
def own_appliance(
    engines: Path, *, prefix: str, threads: int | None
) -> Iterator[tuple[BrokerAddress, Appliance]]:
    """An appliance online with the engines in a folder, and its broker, until the block is left.

    Raises BrokerError, ServiceError.
    """
    with (
        TemporaryDirectory(prefix="delen-bench-") as name,
        Mosquitto(folder=Path(name) / "broker") as broker,
    ):
        folder = Path(name)
        (folder / "conditions").mkdir()
        settings = {
            "MQTT_HOST": broker.host,
            "MQTT_PORT": str(broker.port),
            "TOPIC_PREFIX": prefix,
            "ENGINES": str(engines.resolve()),
            "CONDITIONS": str(folder / "conditions"),
            "DATABASE": str(folder / "delen.db"),
        }
        if threads is not None:
            settings["THREADS"] = str(threads)
        address = BrokerAddress(host=broker.host, port=broker.port)
        with Appliance(NAME, folder=folder, settings=settings) as appliance:
            with Session(address, prefix=prefix) as client:
                FleetManager(client, appliance).wait_online()
            yield address, appliance
