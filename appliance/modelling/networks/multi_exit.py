"""A network cut into stages, with a head after each: what training, splitting and export share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from appliance.engine import InputSpec, Kind


class MultiExitNetwork(nn.Module):  # type: ignore[misc]
    """Any network that can be listed as stages, each followed by a head.

    Stage 0 takes the input of shape (N, *input.shape), every other stage the features of the one
    before it. Head *i* turns the features of stage *i* into logits of shape (N, classes).
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

    def forward(self, features: Tensor) -> list[Tensor]:
        """The logits of every exit, for an input of shape (N, *input.shape)."""
        answers = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            features = stage(features)
            answers.append(head(features))
        return answers

    def subnetwork(self, exit_: int) -> Subnetwork:
        """Stage `exit_` with its head, as the appliance runs it."""
        last = exit_ == len(self.stages) - 1
        return Subnetwork(stage=self.stages[exit_], head=self.heads[exit_], last=last)


class Subnetwork(nn.Module):  # type: ignore[misc]
    """One stage with its head: features in, (`output`, `features`) out; the last one: `output`."""

    def __init__(self, *, stage: nn.Module, head: nn.Module, last: bool) -> None:
        super().__init__()
        self.stage = stage
        self.head = head
        self.last = last

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        features = self.stage(features)
        output = self.head(features)
        return (output,) if self.last else (output, features)
