"""Batches for a training, decoded by worker processes while the network learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
from torch.utils.data import DataLoader, Dataset

from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets import Batch, Example, batches


def loaded(  # noqa: PLR0913 - what to load, and how
    examples: Sequence[Example],
    size: int,
    *,
    labels: Sequence[str],
    spec: InputSpec,
    kind: Kind,
    workers: int,
) -> Iterator[Batch]:
    """The examples in order, `in_batches`; with no workers, each when it is asked for.

    Raises ModellingError for a frame that cannot be decoded or whose label is none of `labels`.
    """
    decoded = _Decoded(in_batches(examples, size), labels, spec, kind)
    for batch in DataLoader(decoded, batch_size=None, shuffle=False, num_workers=workers):
        if isinstance(batch, ModellingError):
            raise batch
        yield batch


def in_batches(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    """The examples in order, `size` at a time.

    One that is left over goes with those before it: a batch of one has no variance, which batch
    normalisation of plain features divides by.
    """
    starts = list(range(0, len(examples), size))
    if size > 1 and len(starts) > 1 and len(examples) % size == 1:
        starts.pop()
    return [examples[start:end] for start, end in zip_longest(starts, starts[1:], fillvalue=None)]


class _Decoded(Dataset):  # type: ignore[misc]
    """A batch per chunk of examples.

    An error is handed over as a value: raised in a worker, it would come with the worker's
    traceback for its message.
    """

    def __init__(
        self,
        chunks: Sequence[Sequence[Example]],
        labels: Sequence[str],
        spec: InputSpec,
        kind: Kind,
    ) -> None:
        self._chunks = chunks
        self._labels = labels
        self._spec = spec
        self._kind = kind

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, number: int) -> Batch | ModellingError:
        # Workers share the cores with the training.
        torch.set_num_threads(1) if torch.utils.data.get_worker_info() else None
        chunk = self._chunks[number]
        try:
            return next(
                batches(chunk, len(chunk), labels=self._labels, spec=self._spec, kind=self._kind)
            )
        except ModellingError as error:
            return error
