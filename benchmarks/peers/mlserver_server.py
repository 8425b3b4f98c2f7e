"""The network served by MLServer: `mlserver_server.py NETWORK PORT`, in MLServer's environment."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceResponse, ResponseOutput


class Network(MLModel):  # type: ignore[misc]
    """A frame comes as base64, the form in which MLServer's HTTP takes bytes."""

    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            sys.argv[1], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: Any) -> Any:
        encoded = payload.inputs[0].data[0]
        frame = np.load(io.BytesIO(base64.b64decode(encoded)))
        (output,) = self._session.run(None, {"input": frame})
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                ResponseOutput(
                    name="output",
                    shape=list(output.shape),
                    datatype="FP32",
                    data=output.ravel().tolist(),
                )
            ],
        )


async def serve() -> None:
    # In one process: its pool of workers only costs where one network is served.
    port = int(sys.argv[2])
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        parallel_workers=0,
        metrics_endpoint=None,
    )
    await MLServer(settings).start([ModelSettings(name="network", implementation=Network)])


if __name__ == "__main__":
    asyncio.run(serve())
