"""The other servers of the benchmark `peers`: how they are started, asked, and missed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import server
from benchmarks.peers.__main__ import DIRECT, US, _finding
from benchmarks.peers.environment import UnavailableError, environment
from benchmarks.peers.protocols import LITSERVE, MLSERVER, TRITON
from benchmarks.peers.server import PEERS, Connection, Peer, running
from benchmarks.small import tensor_frame

SERVER = """
import http.server, json, sys

class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"output": [size]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Echo).serve_forever()
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """A peer whose script is still to be written, and runs in this very environment."""
    monkeypatch.setattr(server, "HERE", tmp_path)
    monkeypatch.setattr(server, "environment", lambda *_: Path(sys.executable))
    return Peer(name="echo", protocol=LITSERVE)


def test_a_peer_is_asked_as_soon_as_it_is_ready_and_is_gone_afterwards(
    peer: Peer, tmp_path: Path
) -> None:
    peer.script.write_text(SERVER)
    request = LITSERVE.ask(b"frame")

    with running(peer, tmp_path / "net.onnx", tmp_path) as port:
        connection = Connection(port)
        # This server closes after each reply, so that the second needs another connection.
        outputs = [LITSERVE.read(*connection.post(request)) for _ in range(2)]
        connection.close()

    assert [int(output[0]) for output in outputs] == [len(request.body)] * 2
    with pytest.raises(OSError, match="refused"):
        Connection(port).post(request)


def test_a_peer_that_ends_at_its_start_is_told_with_its_last_words(
    peer: Peer, tmp_path: Path
) -> None:
    peer.script.write_text("raise SystemExit('no licence')")

    with (
        pytest.raises(UnavailableError, match="ended with exit code 1: no licence"),
        running(peer, tmp_path / "net.onnx", tmp_path),
    ):
        pass


def test_a_peer_that_cannot_be_installed_is_told_with_pips_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirements = tmp_path / "peer.txt"
    requirements.write_text("there-is-no-such-server==1\n")

    with pytest.raises(UnavailableError, match=r"cannot be installed: .*there-is-no-such-server"):
        environment("peer", requirements)


def test_what_was_not_measured_is_named_with_the_reason() -> None:
    closed_ms = {DIRECT: [1.0, 1.0], US: [3.0, 3.0], "litserve": [4.0, 4.0]}

    finding = _finding(closed_ms, {US: [3.0]}, {"pytriton": "cannot be installed: no wheel"})

    assert (finding.figure, finding.met) == (2.0, True)
    assert finding.measured["added_p50_ms"] == {US: 2.0, "litserve": 3.0}
    assert finding.measured["not_measured"] == {"pytriton": "cannot be installed: no wheel"}


def test_without_any_peer_nothing_is_met() -> None:
    assert not _finding({DIRECT: [1.0], US: [2.0]}, {US: [2.0]}, {}).met


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_a_script_and_its_version_pinned(peer: Peer) -> None:
    assert peer.script.is_file()
    assert any(f"{peer.name}==" in line for line in peer.requirements.read_text().splitlines())


def test_triton_gets_the_tensor_as_it_is_behind_a_head_of_json() -> None:
    frame = tensor_frame((3, 4, 4))

    request = TRITON.ask(frame)

    length = int(request.headers["Inference-Header-Content-Length"])
    head, tensor = json.loads(request.body[:length]), request.body[length:]
    assert head["inputs"][0]["shape"] == [1, 3, 4, 4]
    assert head["inputs"][0]["parameters"]["binary_data_size"] == len(tensor) == 4 * 48
    assert frame.endswith(tensor)


def test_tritons_output_is_read_from_behind_its_head() -> None:
    output = np.array([1.5, -2.0], np.float32)

    read = TRITON.read(b"{}" + output.tobytes(), {"Inference-Header-Content-Length": "2"})

    assert read.tolist() == output.tolist()


def test_mlserver_gets_the_frame_as_base64() -> None:
    tensor = json.loads(MLSERVER.ask(b"frame").body)["inputs"][0]

    assert (tensor["datatype"], tensor["data"]) == ("BYTES", ["ZnJhbWU="])


def test_an_environment_is_made_once_for_the_same_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    requirements = tmp_path / "peer.txt"
    requirements.write_text("# nothing\n")

    first, again = environment("peer", requirements), environment("peer", requirements)
    requirements.write_text("# nothing else\n")
    another = environment("peer", requirements)

    assert first == again != another
    assert os.access(first, os.X_OK)
    assert first.is_relative_to(tmp_path / "cache" / "delen" / "peers")
