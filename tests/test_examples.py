"""The examples, run as their README says, against a real broker and appliance."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from appliance.broker import Mosquitto
from appliance.payloads import payload_of
from appliance.settings import Settings
from tests.appliances import client_of, push, serving, settings_for
from tests.engines import tiny_engine
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NODE_RED = ROOT / "tests" / "node-red" / "node_modules" / "node-red" / "red.js"

POLICY = "{tenant: gate, version: 1, engine: tiny, exit_when: exit >= 0, queue: {limit: 100}}"
PNG = payload_of(Image.new("L", (8, 8), "white")).frame


@pytest.fixture(scope="module")
def settings(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a running appliance that serves the tenant `gate`."""
    folder = tmp_path_factory.mktemp("appliance")
    tiny_engine(folder / "engines" / "tiny")
    settings = settings_for(broker, folder)
    with serving(settings):
        with client_of(settings) as session:
            push(session, POLICY)
        yield settings


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    names = ("mqtt_host", "mqtt_port", "topic_prefix")
    return {
        **os.environ,
        **{f"DELEN_{name.upper()}": str(getattr(settings, name)) for name in names},
    }


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three frames, of which one is none."""
    folder = tmp_path_factory.mktemp("frames")
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(PNG)
    (folder / "c.png").write_bytes(b"no picture")
    return folder


def output_of(environment: dict[str, str], *command: object) -> list[str]:
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_the_readme_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text()

    for path in EXAMPLES.rglob("*.*"):
        if path.is_file() and path.name != "README.md":
            assert f"{path.relative_to(EXAMPLES)}" in text, path


@contextmanager
def camera() -> Iterator[str]:
    """The address of a network camera's picture."""

    class Picture(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PNG)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Picture) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/snapshot.png"
        finally:
            server.shutdown()
            thread.join()


def test_a_network_cameras_pictures_are_answered(environment: dict[str, str]) -> None:
    with camera() as address:
        command = [sys.executable, str(EXAMPLES / "python" / "camera.py"), address]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            line = run.stdout.readline()
            run.kill()

    assert "label='bright'" in line
    assert "stream='camera'" in line


def test_a_folder_is_answered_with_asyncio(environment: dict[str, str], frames: Path) -> None:
    lines = output_of(environment, sys.executable, EXAMPLES / "python" / "folder.py", frames)

    assert sorted(line.split(" ")[:2] for line in lines) == [
        ["a.png:", "bright,"],
        ["b.png:", "bright,"],
        ["c.png:", "400"],
    ]


def test_arrays_are_answered_one_by_one(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "frames.npy"
    np.save(path, np.stack([np.ones((1, 8, 8)), np.full((1, 8, 8), np.nan)]).astype(np.float32))

    lines = output_of(environment, sys.executable, EXAMPLES / "python" / "arrays.py", path)

    assert lines[0].startswith("0: bright")
    assert lines[1].startswith("1: 400 malformed frame")
    assert lines[2].startswith("median")


def test_mosquitto_rr_asks_for_one_frame(environment: dict[str, str], frames: Path) -> None:
    (line,) = output_of(environment, "sh", EXAMPLES / "shell" / "ask.sh", frames / "a.png")

    assert json.loads(line)["label"] == "bright"


def test_a_stream_by_mqtt_3_1_1_gets_its_replies(environment: dict[str, str], frames: Path) -> None:
    lines = output_of(
        environment, "sh", EXAMPLES / "shell" / "stream.sh", *sorted(frames.iterdir())
    )

    assert sorted(json.loads(line)["status"] for line in lines) == ["ok", "ok", "rejected"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_the_sketch_is_c_plus_plus_that_fits_what_its_libraries_declare() -> None:
    sketch = EXAMPLES / "esp32-cam" / "esp32-cam.ino"
    declarations = ROOT / "tests" / "esp32" / "declarations"
    options = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-std=gnu++17", "-x", "c++"]

    checked = subprocess.run(
        ["g++", *options, "-I", declarations, sketch], capture_output=True, text=True, check=False
    )

    assert checked.stderr == ""


def flow() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads((EXAMPLES / "node-red" / "flow.json").read_text())
    return nodes


def test_the_flow_can_be_imported_whole() -> None:
    nodes = {node["id"]: node for node in flow()}

    assert len(nodes) == len(flow())
    for node in nodes.values():
        wired = [target for output in node.get("wires", []) for target in output]
        named = [
            node[key] for key in ("z", "broker") if key in node and node["type"] != "mqtt-broker"
        ]
        assert set(wired + named) <= set(nodes), node["name"]


@contextmanager
def node_red(settings: Settings, folder: Path) -> Iterator[str]:
    """The address of a Node-RED that runs the flow, with this broker and prefix in it."""
    nodes = flow()
    for node in nodes:
        if node["type"] == "mqtt-broker":
            node |= {"broker": settings.mqtt_host, "port": str(settings.mqtt_port)}
        if node["type"] == "tab":
            node["env"][0]["value"] = f"{settings.topic_prefix}/gate"
    (folder / "flows.json").write_text(json.dumps(nodes))
    (folder / "settings.js").write_text(
        "module.exports = { flowFile: 'flows.json', uiHost: '127.0.0.1', httpAdminRoot: false };"
    )
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = ["node", str(NODE_RED), "--userDir", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}/delen"
        finally:
            process.terminate()


def posted(address: str, frame: bytes) -> tuple[int, dict[str, Any]] | None:
    """The status and the reply; None where nobody listens yet, or the flow does not."""
    request = Request(  # noqa: S310 - of this machine
        address, frame, {"Content-Type": "application/octet-stream"}
    )
    try:
        with urlopen(request, timeout=20) as response:  # noqa: S310
            return response.status, json.loads(response.read())
    except HTTPError as error:
        with error:
            body = error.read()
        return (error.code, json.loads(body)) if body.startswith(b"{") else None
    except OSError:
        return None


@pytest.mark.node_red
def test_a_frame_that_is_posted_to_node_red_is_answered(settings: Settings, tmp_path: Path) -> None:
    with node_red(settings, tmp_path) as address:
        wait_until(lambda: posted(address, PNG) is not None, patience_s=60)
        answered, refused = posted(address, PNG), posted(address, b"no picture")

    assert answered is not None
    assert refused is not None
    assert (answered[0], answered[1]["label"]) == (200, "bright")
    assert (refused[0], refused[1]["reason"]) == (415, "unknown type")
