"""What is counted in ONNX files, beside what torch counts of the same network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance import manifest
from appliance.errors import ModellingError
from appliance.modelling.profiling.graph import counted

DIGITS = Path("engines/digits")


def test_a_graph_is_counted_as_torch_counts_the_network() -> None:
    known = manifest.load(DIGITS)
    bare = replace(
        known, stages=tuple(replace(s, flops=None, parameters=None) for s in known.stages)
    )

    found = counted(bare)

    # The graph has the activations too, and the normalisations folded into the convolutions.
    assert [s.flops for s in found.stages] == pytest.approx(
        [s.flops for s in known.stages], rel=0.02
    )
    assert [s.parameters for s in found.stages] == pytest.approx(
        [s.parameters for s in known.stages], rel=0.01
    )


def test_what_a_manifest_tells_is_not_counted_again() -> None:
    known = manifest.load(DIGITS)

    assert counted(known) is known


def test_a_file_that_cannot_be_counted_in_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "stage0.onnx"
    broken.write_bytes(b"no graph")
    known = manifest.load(DIGITS)
    engine = replace(known, stages=(replace(known.stages[0], onnx=broken, flops=None),))

    with pytest.raises(ModellingError, match=r"stage0\.onnx cannot be counted in"):
        counted(engine)
