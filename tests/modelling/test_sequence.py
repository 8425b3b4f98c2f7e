"""From a dataset in its published layout to an engine that answers a frame over MQTT."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance import manifest
from appliance.broker import Mosquitto
from appliance.messages import Result
from tests.appliances import client_of, push, serving, settings_for
from tests.modelling.runs import delen
from tests.modelling.trees import food101_tree, speech_commands_tree

pytestmark = pytest.mark.training

POLICY = """
tenant: gate
version: 1
engine: mine
exit_when: exit >= 1
"""

Tree = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("network", "dataset", "tree"),
    [
        ("resnet18", "food-101", food101_tree),
        ("efficientnet-b0", "food-101", food101_tree),
        ("wav2vec2", "speech-commands", speech_commands_tree),
    ],
)
def test_a_dataset_becomes_an_engine_that_answers(
    network: str, dataset: str, tree: Tree, broker: Mosquitto, tmp_path: Path
) -> None:
    source = ["--dataset", dataset, "--dataset-dir", tree(tmp_path / dataset)]
    run, engine = tmp_path / "runs" / "mine", tmp_path / "engines" / "mine"

    delen("train", "-m", network, *source, "-n", 1, "-b", 4, "--out", run)
    delen("split", run, "--out", engine)
    delen("profile", engine, *source, "--batches", "1,2", "--runs", 2)
    ran = json.loads(delen("run", engine, "--seconds", 0.2, "--json").stdout)

    loaded = manifest.load(engine)
    assert all(stage.latency and stage.flops and stage.parameters for stage in loaded.stages)
    assert ran[0]["tasks"] > 0
    settings = settings_for(broker, tmp_path)
    frame = next(path for path in (engine / "frames").rglob("*.*") if path.is_file())
    with serving(settings), client_of(settings) as client:
        push(client, POLICY)
        reply = client.infer("gate", frame.read_bytes())
    assert isinstance(reply, Result)
    assert (reply.exit, reply.label in loaded.labels) == (1, True)
