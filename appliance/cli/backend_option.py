"""The option that names a backend, for the commands that run an engine in their own process."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.settings import BackendName

BackendOption = Annotated[
    BackendName,
    typer.Option(
        "--backend",
        help="what runs the stages; auto: TensorRT where it works, else ONNX Runtime on the CPU",
    ),
]
