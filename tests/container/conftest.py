"""One engine, one pair of images and one composition for all tests of the container."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.composition import Composition, composed
from tests.container.engine import Engine, some_engine

ROOT = Path(__file__).parent.parent.parent
BASE = "delen-test/debian"
APPLIANCE = "delen:cpu"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with some_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def images(engine: Engine) -> Engine:
    """The engine, once it has built both images on a plain Debian."""
    engine.import_debian(BASE)
    engine.build(APPLIANCE, ROOT, BASE_IMAGE=BASE, EXTRAS="dashboard,top")
    engine.build("delen-broker", ROOT / "deploy" / "mosquitto", BASE_IMAGE=BASE)
    return engine


@pytest.fixture(scope="session")
def composition(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    folder = tmp_path_factory.mktemp("composition")
    for name in ("compose.yaml", "compose.cpu.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("deploy", "engines", "conditions"):
        shutil.copytree(ROOT / name, folder / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / ".env").write_text(f"BROKER_PORT={port}\nDASHBOARD_PORT=0\nTENANTS=gate meter\n")
    with composed(images, folder, port) as composition:
        composition.wait_online()
        yield composition
