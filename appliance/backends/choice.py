"""Which backend runs an engine: the one that was named, or the best that works here."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain, islice

from appliance.backends import builds
from appliance.backends.protocol import Backend
from appliance.engine import Engine
from appliance.errors import EngineError

_log = logging.getLogger(__name__)

AUTO = "auto"


def _onnx(engine: Engine, threads: int | None) -> Backend:
    from appliance.backends.onnx import OnnxBackend  # noqa: PLC0415 - loaded where it is chosen

    return OnnxBackend(engine, threads=threads)


def _onnx_cuda(engine: Engine, threads: int | None) -> Backend:
    from appliance.backends import onnx  # noqa: PLC0415

    return onnx.OnnxBackend(engine, threads=threads, provider=onnx.CUDA)


def _onnx_tensorrt(engine: Engine, threads: int | None) -> Backend:
    from appliance.backends import onnx  # noqa: PLC0415

    return onnx.OnnxBackend(engine, threads=threads, provider=onnx.TENSORRT)


def _tensorrt(engine: Engine, threads: int | None) -> Backend:  # noqa: ARG001 - the GPU has its own
    refusal = why_not_tensorrt(engine)
    if refusal is not None:
        raise EngineError(refusal)
    from appliance.backends.tensorrt import TensorRTBackend  # noqa: PLC0415

    return TensorRTBackend(engine)


BACKENDS: Mapping[str, Callable[[Engine, int | None], Backend]] = {
    "tensorrt": _tensorrt,
    "onnx": _onnx,
    "onnx-tensorrt": _onnx_tensorrt,
    "onnx-cuda": _onnx_cuda,
}
"""The backends by the name that `DELEN_BACKEND` gives them. Each factory raises EngineError."""

_DRIVER = "libcuda.so"

IN_ORDER = ("tensorrt", "onnx")
"""What `auto` tries, the best first."""


def here() -> tuple[str, str]:
    """TensorRT's version and the device's name. Raises EngineError where either is missing."""
    for library in ("tensorrt", "pycuda.driver"):
        try:
            importlib.import_module(library)
        except Exception as error:
            name = library.split(".", maxsplit=1)[0]
            raise EngineError(f"{name} does not load ({error}): {_source(name, error)}") from error
    import tensorrt  # noqa: PLC0415 - found a moment ago

    from appliance.backends.cuda import describe_device  # noqa: PLC0415

    return tensorrt.__version__, describe_device()


def _source(library: str, error: Exception) -> str:
    if _DRIVER in str(error):
        return "the NVIDIA driver is missing; a container has it by `runtime: nvidia`"
    source = "JetPack" if library == "tensorrt" else "pip install 'delen[jetson]'"
    return f"on a Jetson it comes with {source}"


def why_not_tensorrt(engine: Engine) -> str | None:
    """Why an engine's plans do not run here, and what to do; None where nothing is known of it."""
    try:
        version, device = here()
    except EngineError as error:
        return str(error)
    return builds.refusal(engine, tensorrt=version, device=device)


def opened(
    engine: Engine, name: str = AUTO, threads: int | None = None
) -> AbstractContextManager[Backend]:
    """The open backend of that name; with `auto` the first that opens, and the log says why.

    What is read from disk is read here, in any thread; it is entered and left in the one that uses
    the backend. Entering it raises EngineError where none opens.
    """
    reasons: dict[str, str] = {}
    made = _made(engine, IN_ORDER if name == AUTO else (name,), threads, reasons)
    first = list(islice(made, 1))
    return _entered(engine, chain(first, made), reasons)


def _made(
    engine: Engine, names: Sequence[str], threads: int | None, reasons: dict[str, str]
) -> Iterator[tuple[str, Backend]]:
    """The backends that can be made, one when it is asked for; of the others it notes why not."""
    for name in names:
        try:
            backend = BACKENDS[name](engine, threads)
        except EngineError as error:
            reasons[name] = str(error)
        else:
            yield name, backend


@contextmanager
def _entered(
    engine: Engine, made: Iterable[tuple[str, Backend]], reasons: dict[str, str]
) -> Iterator[Backend]:
    """The first of the backends that can be entered."""
    with ExitStack() as stack:
        yield _enter_first(stack, engine, made, reasons)


def _enter_first(
    stack: ExitStack, engine: Engine, made: Iterable[tuple[str, Backend]], reasons: dict[str, str]
) -> Backend:
    for name, backend in made:
        try:
            stack.enter_context(backend)
        except EngineError as error:
            reasons[name] = str(error)
        else:
            others = "".join(f"; not on {other}: {reason}" for other, reason in reasons.items())
            _log.info("engine %s runs on %s%s", engine.name, name, others)
            return backend
    # Nobody who has no plans wants to know first why there is no TensorRT.
    if len(reasons) > 1 and not any(stage.tensorrt for stage in engine.stages):
        del reasons["tensorrt"]
    raise EngineError("; ".join(reasons.values()))
