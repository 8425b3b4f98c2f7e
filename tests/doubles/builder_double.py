"""The part of the double of `tensorrt` that builds plans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tests.doubles import tensorrt_double as base
from tests.doubles.board import Board, RuleBrokenError

CACHE = b"the double's timing cache of "


def add_builder(module: ModuleType, board: Board, version: str) -> None:
    """Gives the module its builder, with what its version has."""
    is_typed = int(version.split(".", maxsplit=1)[0]) >= 11

    class ITensor:
        def __init__(self, tensor: Any) -> None:
            self._tensor = tensor

        @property
        def name(self) -> str:
            return str(self._tensor.name)

        @property
        def shape(self) -> base.Dims:
            shape = self._tensor.shape
            return base.Dims([size if isinstance(size, int) else -1 for size in shape])

        @property
        def dtype(self) -> Any:
            return base._TYPES[self._tensor.type][0]

    class INetworkDefinition:
        def __init__(self) -> None:
            self.model: bytes | None = None
            self._inputs: list[ITensor] = []

        def fill(self, model: bytes) -> None:
            self._inputs = [ITensor(tensor) for tensor in base.session_of(model).get_inputs()]
            self.model = model

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        def get_input(self, index: int) -> ITensor:
            return self._inputs[index]

    class ParserError:
        def __init__(self, sentence: str) -> None:
            self._sentence = sentence

        def desc(self) -> str:
            return self._sentence

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: base.ILogger) -> None:
            self._network = network
            self._errors: list[ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def parse_from_file(self, model: str) -> bool:
            try:
                self._network.fill(Path(model).read_bytes())
            except Exception as error:  # noqa: BLE001 - the parser says what is wrong, and returns
                self._errors.append(ParserError(str(error)))
            return not self._errors

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class IOptimizationProfile:
        def __init__(self) -> None:
            self.shapes: dict[str, list[tuple[int, ...]]] = {}

        def set_shape(
            self,
            input: str,
            min: Sequence[int],
            opt: Sequence[int],
            max: Sequence[int],
        ) -> None:
            if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
                raise RuleBrokenError("a profile needs min <= opt <= max")
            self.shapes[input] = [tuple(min), tuple(opt), tuple(max)]

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> base.IHostMemory:
            return base.IHostMemory(self.content or CACHE + version.encode())

    class IInt8EntropyCalibrator2:
        def __init__(self) -> None:
            self.is_initialised = True

        def get_batch_size(self) -> int:
            raise NotImplementedError

        def get_batch(self, names: list[str]) -> list[int] | None:
            raise NotImplementedError

        def read_calibration_cache(self) -> Any:
            raise NotImplementedError

        def write_calibration_cache(self, cache: Any) -> None:
            raise NotImplementedError

    class IBuilderConfig:
        def __init__(self) -> None:
            self.flags: list[base.Value] = []
            self.workspace = 0
            self.profiles: list[IOptimizationProfile] = []
            self.int8_calibrator: Any = None
            self.calibration_profile: IOptimizationProfile | None = None
            self._cache: ITimingCache | None = None

        def set_flag(self, flag: base.Value) -> None:
            self.flags.append(flag)

        def set_memory_pool_limit(self, pool: base.Value, pool_size: int) -> None:
            if pool != base.MemoryPoolType.WORKSPACE:
                raise RuleBrokenError("another pool is limited than the workspace")
            self.workspace = pool_size

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
            self.calibration_profile = profile
            return True

        def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:
            return ITimingCache(bytes(serialized_timing_cache))

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            matches = not cache.content or cache.content.endswith(version.encode())
            if matches or ignore_mismatch:
                self._cache = cache
            return matches or ignore_mismatch

        def get_timing_cache(self) -> ITimingCache | None:
            return self._cache

    class Builder:
        def __init__(self, logger: base.ILogger) -> None:
            board.require_context()
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            if flags:
                raise RuleBrokenError("no flag of a network is needed from TensorRT 10 on")
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(
            self, network: INetworkDefinition, config: IBuilderConfig
        ) -> base.IHostMemory | None:
            source = network.get_input(0)
            is_dynamic = any(size < 0 for size in source.shape.sizes)
            if network.model is None or (is_dynamic and not config.profiles):
                self._logger.log(base.ILogger.Severity.ERROR, "the network has no profile")
                return None
            board.configurations.append(config)
            if not is_typed and module.BuilderFlag.INT8 in config.flags:
                _calibrate(board, config, source)
            profiles = [profile.shapes[source.name] for profile in config.profiles]
            # As the library allows: what is built does better or worse than what was asked for.
            return base.plan_of(network.model, profiles, version=version, error=board.error)

    members = [] if is_typed else ["FP16", "INT8"]
    module.BuilderFlag = base._enumeration("BuilderFlag", *members, "DEBUG")  # type: ignore[attr-defined]
    values: list[Any] = [ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile]
    values += [ITimingCache, IBuilderConfig, Builder]
    if is_typed:
        del IBuilderConfig.set_calibration_profile
    else:
        values.append(IInt8EntropyCalibrator2)
    for value in values:
        setattr(module, value.__name__, value)


def _calibrate(board: Board, config: Any, source: Any) -> None:
    """Takes all calibration batches from the device, as TensorRT does while it builds."""
    calibrator = config.int8_calibrator
    if calibrator is None or not getattr(calibrator, "is_initialised", False):
        raise RuleBrokenError("INT8 needs a calibrator that has initialised its base class")
    if config.calibration_profile is None:
        raise RuleBrokenError("a network with a dynamic batch is calibrated in a profile")
    batch = calibrator.get_batch_size()
    shape = config.calibration_profile.shapes[source.name][1]
    if shape[0] != batch:
        raise RuleBrokenError("the calibration profile has another batch than the calibrator")
    calibrator.read_calibration_cache()
    board.calibration_batches = []
    while addresses := calibrator.get_batch([source.name]):
        size = int(np.prod(shape)) * np.dtype(base.nptype(source.dtype)).itemsize
        content = board.view(addresses[0], size).copy()
        board.calibration_batches.append(content.view(base.nptype(source.dtype)).reshape(shape))
    calibrator.write_calibration_cache(b"scales")
