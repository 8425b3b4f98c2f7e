"""How each peer is asked over HTTP: what a frame becomes as a request, and what a reply says."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """A frame, as it is posted."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """One server's HTTP."""

    ready: str
    """The path that answers 200 once the network is loaded."""
    ask: Callable[[bytes], Request]
    """Makes a request of a frame as NPY."""
    read: Callable[[bytes, Mapping[str, str]], NDArray[Any]]
    """The network's output in a reply's body and headers, shape (classes,)."""


def _ask_litserve(frame: bytes) -> Request:
    boundary = "frame-of-a-benchmark"
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="frame"; filename="frame.npy"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + frame + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return Request("/predict", {"Content-Type": kind}, body)


def _read_litserve(body: bytes, _: Mapping[str, str]) -> NDArray[Any]:
    return np.array(json.loads(body)["output"])


def _ask_mlserver(frame: bytes) -> Request:
    tensor = {
        "name": "input",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(frame).decode()],
    }
    path = "/v2/models/network/infer"
    return Request(path, JSON, json.dumps({"inputs": [tensor]}).encode())


def _read_mlserver(body: bytes, _: Mapping[str, str]) -> NDArray[Any]:
    return np.array(json.loads(body)["outputs"][0]["data"])


def _ask_triton(frame: bytes) -> Request:
    """Triton's binary extension of the same protocol: a JSON head, then the tensor as it is."""
    array = np.load(io.BytesIO(frame))
    tensor = {
        "name": "input",
        "shape": list(array.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }
    wanted = {"name": "output", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Request("/v2/models/network/infer", headers, head + array.tobytes())


def _read_triton(body: bytes, headers: Mapping[str, str]) -> NDArray[Any]:
    tensor = body[int(headers["Inference-Header-Content-Length"]) :]
    return np.array([value for (value,) in struct.iter_unpack("<f", tensor)])


LITSERVE = Protocol(ready="/health", ask=_ask_litserve, read=_read_litserve)
MLSERVER = Protocol(ready="/v2/models/network/ready", ask=_ask_mlserver, read=_read_mlserver)
TRITON = Protocol(ready="/v2/models/network/ready", ask=_ask_triton, read=_read_triton)
