"""A network cut into stages, with a head after each: what training, splitting and export share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from appliance.engine import InputSpec, Kind


class MultiExitNetwork(nn.Module):  # type: ignore[misc]
    """Any network that can be listed as stages, each followed by a head.

    Stage 0 takes the input of shape (N, *input.shape), every other stage the features of the one
    before it. Head *i* turns the features of stage *i* into logits of shape (N, classes). Where
    `sums_logits`, an exit answers with the sum of its own logits and those of all exits before it.
    """

    def __init__(
        self,
        *,
        kind: Kind,
        input: InputSpec,  # noqa: A002 - the manifest's own word
        stages: Sequence[nn.Module],
        heads: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.kind = kind
        self.input = input
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        self.sums_logits = False

    def forward(self, features: Tensor) -> list[Tensor]:
        """The logits of every exit, for an input of shape (N, *input.shape)."""
        answers: list[Tensor] = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            features = stage(features)
            logits = head(features)
            answers.append(answers[-1] + logits if self.sums_logits and answers else logits)
        return answers

    def subnetwork(self, exit_: int) -> nn.Module:
        """Stage `exit_` with its head, as the appliance runs it.

        Takes the features of the stage before it, gives (`output`, `features`), and the last one
        (`output`,) alone.
        """
        stage, head = self.stages[exit_], self.heads[exit_]
        last = exit_ == len(self.stages) - 1
        if not self.sums_logits:
            return _Subnetwork(stage=stage, head=head, last=last)
        return _SummingSubnetwork(
            stage=stage, head=head, last=last, shape=self.feature_shapes()[exit_ - 1 : exit_]
        )

    def block(self, number: int) -> nn.Module:
        """The smallest part to cut at: features in, features out; the last one gives the output.

        Where a stage is a `Sequential`, its parts are the blocks, else it is one itself.
        """
        blocks = self._blocks()
        if number < len(blocks) - 1:
            return blocks[number]
        return nn.Sequential(blocks[number], self.heads[-1])

    @property
    def block_count(self) -> int:
        return len(self._blocks())

    def backbone(self) -> nn.Module:
        """The network with its last exit only: the input in, the logits out."""
        if self.sums_logits:
            return _LastAnswer(self)
        return nn.Sequential(*self.stages, self.heads[-1])

    def feature_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each stage's features, without the batch axis; each stage is run once."""
        training = self.training
        self.eval()
        with torch.inference_mode():
            features = torch.zeros(1, *self.input.shape, device=next(self.parameters()).device)
            shapes = []
            for stage in self.stages:
                features = stage(features)
                shapes.append(tuple(features.shape[1:]))
        self.train(training)
        return shapes

    def _blocks(self) -> list[nn.Module]:
        return [
            block
            for stage in self.stages
            for block in (stage if isinstance(stage, nn.Sequential) else (stage,))
        ]


def wrapped(
    stages: Sequence[nn.Module],
    *,
    kind: Kind,
    input: InputSpec,  # noqa: A002 - the manifest's own word
    classes: int,
) -> MultiExitNetwork:
    """Any modules that can be run one after another, with a linear classifier after each.

    A head sees the mean of each channel of its stage's features: over height and width, or over
    the steps of (N, steps, channels).
    """
    bare = MultiExitNetwork(
        kind=kind, input=input, stages=stages, heads=[nn.Identity() for _ in stages]
    )
    heads = [pooled_head(shape, classes) for shape in bare.feature_shapes()]
    return MultiExitNetwork(kind=kind, input=input, stages=stages, heads=heads)


def pooled_head(shape: tuple[int, ...], classes: int, *, dropout: float = 0.0) -> nn.Sequential:
    """A linear classifier on the mean of each channel of features of this shape."""
    pool: nn.Module = _MeanOverSteps() if len(shape) == 2 else nn.Identity()
    width = shape[-1]
    if len(shape) == 3:
        pool, width = nn.AdaptiveAvgPool2d(1), shape[0]
    return nn.Sequential(pool, nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, classes))


class _MeanOverSteps(nn.Module):  # type: ignore[misc]
    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=1)


class _LastAnswer(nn.Module):  # type: ignore[misc]
    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.network(features)[-1]


class _Subnetwork(nn.Module):  # type: ignore[misc]
    def __init__(self, *, stage: nn.Module, head: nn.Module, last: bool) -> None:
        super().__init__()
        self.stage = stage
        self.head = head
        self.last = last

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        features = self.stage(features)
        output = self.head(features)
        return (output,) if self.last else (output, features)


class _SummingSubnetwork(_Subnetwork):
    """A subnetwork that adds the logits of the exits before it, which travel with the features.

    A stage hands one tensor on: the features as a row, with the logits summed up so far behind.
    """

    def __init__(
        self,
        *,
        stage: nn.Module,
        head: nn.Module,
        last: bool,
        shape: Sequence[tuple[int, ...]],
    ) -> None:
        """`shape` holds that of the features coming in; none of them for the first stage."""
        super().__init__(stage=stage, head=head, last=last)
        self.shape = shape[0] if shape else None

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        if self.shape is None:
            output, following = super().forward(features)
        else:
            size = int(torch.Size(self.shape).numel())
            before = features[:, size:]
            row = features[:, :size].reshape(-1, *self.shape)
            output, *rest = super().forward(row)
            output = output + before
            if self.last:
                return (output,)
            following = rest[0]
        return output, torch.cat((following.flatten(1), output), dim=1)
