"""TensorRT's builder: one stage's ONNX file becomes a plan for this device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from numpy.typing import NDArray

from appliance.backends.builds import is_strongly_typed
from appliance.backends.cuda import CudaDevice
from appliance.backends.protocol import INPUT
from appliance.backends.tensorrt_log import LOG
from appliance.engine import Precision
from appliance.errors import ModellingError


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOrder:
    """What is to be built. INT8 alone takes `calibration`: inputs, shape (1, *input) each."""

    onnx: Path
    precision: Precision
    batches: tuple[int, ...]
    """The largest batch of each optimisation profile, rising."""
    workspace_bytes: int
    calibration: Sequence[NDArray[Any]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltPlan:
    """A serialised plan, and the timings of kernels that the next build can go by."""

    plan: bytes
    timing_cache: bytes


def build_plan(order: PlanOrder, device: CudaDevice, timing_cache: bytes) -> BuiltPlan:
    """Builds one plan, in minutes. Raises ModellingError where the stage cannot be built.

    `timing_cache` may be empty; where it is another device's or version's it is not used.
    """
    builder = _start_builder()
    network = builder.create_network()
    _parse(order.onnx, network)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_bytes)
    # A cache that does not match is refused, and the builder goes on with an empty one.
    if not _use_timings(config, timing_cache):
        _use_timings(config, b"")
    _add_profiles(order, builder, network, config)
    if not is_strongly_typed(trt.__version__):
        _allow(order, device, builder, network, config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModellingError(f"TensorRT cannot build {order.onnx}: {LOG.take_error()}")
    cache = config.get_timing_cache().serialize()
    return BuiltPlan(plan=bytes(memoryview(plan)), timing_cache=bytes(memoryview(cache)))


def _start_builder() -> trt.Builder:
    try:
        return trt.Builder(LOG)
    except TypeError as error:
        # What the bindings make of a null pointer.
        raise ModellingError(f"TensorRT's builder does not start: {LOG.take_error()}") from error


def _use_timings(config: trt.IBuilderConfig, content: bytes) -> bool:
    cache = config.create_timing_cache(content)
    return cache is not None and config.set_timing_cache(cache, ignore_mismatch=False)


def _parse(onnx: Path, network: trt.INetworkDefinition) -> None:
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise ModellingError(f"TensorRT cannot read {onnx}: {'; '.join(errors)}")
    inputs = [network.get_input(number).name for number in range(network.num_inputs)]
    if inputs != [INPUT]:
        raise ModellingError(f"{onnx} takes {', '.join(inputs)}; a stage takes {INPUT} alone")


def _add_profiles(
    order: PlanOrder,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
) -> None:
    """A profile from the batch after the last profile's largest to its own, tuned for that."""
    batch, *shape = network.get_input(0).shape
    if batch > 0:
        if order.batches != (batch,):
            raise ModellingError(
                f"{order.onnx} takes batches of {batch} alone: give --batch {batch}, or export the"
                " stage with a dynamic batch axis"
            )
        return
    smallest = 1
    for largest in order.batches:
        profile = builder.create_optimization_profile()
        most = (largest, *shape)
        profile.set_shape(INPUT, (smallest, *shape), most, most)
        config.add_optimization_profile(profile)
        smallest = largest + 1


def _allow(
    order: PlanOrder,
    device: CudaDevice,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
) -> None:
    """Before 11: lets TensorRT choose kernels of smaller types, and calibrates INT8."""
    if order.precision is Precision.FP32:
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if order.precision is Precision.INT8:
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator = _calibrator(order.calibration, device)
        batch, *shape = network.get_input(0).shape
        if batch < 0:
            profile = builder.create_optimization_profile()
            one = (1, *shape)
            profile.set_shape(INPUT, one, one, one)
            config.set_calibration_profile(profile)


def _calibrator(inputs: Sequence[NDArray[Any]], device: CudaDevice) -> trt.IInt8EntropyCalibrator2:
    """Gives TensorRT the inputs one by one, through memory that is taken once.

    The class is made here, since the one that it derives from is gone from TensorRT 11.
    """
    first = np.asarray(inputs[0])
    pinned = device.pin(first.shape, first.dtype)
    address = device.allocate(pinned.nbytes)

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self._inputs: Iterator[NDArray[Any]] = iter(inputs)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> list[int] | None:  # noqa: ARG002 - TensorRT's
            following = next(self._inputs, None)
            if following is None:
                return None
            pinned[...] = following
            device.upload(address, pinned)
            device.synchronize()
            return [address]

        def read_calibration_cache(self) -> None:
            # The scales are not kept: they hold for these frames and this network alone.
            return None

        def write_calibration_cache(self, cache: object) -> None:
            pass

    return Calibrator()
