"""The CUDA device, by PyCUDA: its context in one thread, one stream, and memory taken once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pycuda import driver
from typing_extensions import Self

from appliance.errors import EngineError


def describe_device() -> str:
    """The first device's name and architecture, as a build key carries them.

    Raises EngineError where there is none.
    """
    try:
        driver.init()
        device = driver.Device(0)
        major, minor = device.compute_capability()
        units = device.get_attribute(driver.device_attribute.MULTIPROCESSOR_COUNT)
    except driver.Error as error:
        raise EngineError(f"there is no CUDA device: {error}") from error
    # Boards of one family share name and architecture, and differ in their multiprocessors.
    return f"{device.name()} sm_{major}{minor} with {units} multiprocessors"


class CudaDevice:
    """The first device, its context current in the thread that entered it, until it leaves.

    All work is enqueued on one stream, in order. What is allocated here is freed once, on leaving.
    Everything raises EngineError where the device fails.
    """

    def __init__(self) -> None:
        self._memory: list[driver.DeviceAllocation] = []
        self._pinned: list[Any] = []

    def __enter__(self) -> Self:
        with _told("the CUDA device cannot be opened"):
            driver.init()
            device = driver.Device(0)
            self.is_unified = bool(device.get_attribute(driver.device_attribute.INTEGRATED))
            """Whether the device reads the host's own memory, as on a Jetson."""
            # The primary context is the one that TensorRT's own use of the CUDA runtime finds.
            self._context = device.retain_primary_context()
            self._context.push()
            self._stream: driver.Stream | None = driver.Stream()
        self.stream = self._stream.handle
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.synchronize()
        finally:
            for memory in (*self._memory, *self._pinned):
                memory.free()
            self._memory.clear()
            self._pinned.clear()
            self._stream = None
            self._context.pop()
            self._context.detach()

    def allocate(self, size: int) -> int:
        """Device memory of so many bytes: its address, aligned to 256 bytes."""
        with _told(f"the device has no {size / 2**20:.1f} MiB left; a smaller --batch takes less"):
            self._memory.append(driver.mem_alloc(size))
        return int(self._memory[-1])

    def pin(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
        """An array in host memory that the device reads and writes without the host's help."""
        flags = driver.host_alloc_flags.DEVICEMAP
        with _told("the host has no memory left that can be pinned"):
            array = driver.pagelocked_empty(shape, dtype, mem_flags=flags)
        self._pinned.append(array.base)
        return array

    def mapped(self, pinned: NDArray[np.generic]) -> int:
        """The address at which the device sees a whole pinned array."""
        base: Any = pinned.base
        return int(base.get_device_pointer())

    def copy(self, target: int, source: int, size: int) -> None:
        """Enqueues a copy from device memory to device memory."""
        with _told("the CUDA device failed"):
            driver.memcpy_dtod_async(target, source, size, self._stream)

    def upload(self, target: int, pinned: NDArray[np.generic]) -> None:
        """Enqueues a copy of a pinned array to the device."""
        with _told("the CUDA device failed"):
            driver.memcpy_htod_async(target, pinned, self._stream)

    def download(self, pinned: NDArray[np.generic], source: int) -> None:
        """Enqueues a copy from the device to a pinned array."""
        with _told("the CUDA device failed"):
            driver.memcpy_dtoh_async(pinned, source, self._stream)

    def synchronize(self) -> None:
        """Waits for all that was enqueued, while other threads go on."""
        if self._stream is not None:
            with _told("the CUDA device failed"):
                self._stream.synchronize()


@contextmanager
def _told(sentence: str) -> Iterator[None]:
    """Makes an EngineError of what PyCUDA raises."""
    try:
        yield
    except driver.Error as error:
        raise EngineError(f"{sentence}: {error}") from error
