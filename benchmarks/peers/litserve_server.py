"""The network served by LitServe: `litserve_server.py NETWORK PORT`, in LitServe's environment."""

import io
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
from fastapi import Request


class Network(litserve.LitAPI):  # type: ignore[misc]
    """A frame comes as a file, the form in which LitServe takes bytes."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature is LitServe's
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            sys.argv[1], options, providers=["CPUExecutionProvider"]
        )

    # LitServe reads this annotation, which may be no string: then it takes a form, and hands it on.
    def decode_request(self, request: Request) -> Any:
        return np.load(io.BytesIO(request["frame"].file.read()))

    def predict(self, x: Any) -> Any:
        return self._session.run(None, {"input": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"output": output.ravel().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Network(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning"
    )
