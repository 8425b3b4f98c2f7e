"""Multi-exit networks: their stages, their parts, and pretrained backbones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError
from appliance.modelling.networks import build
from appliance.modelling.networks.multi_exit import MultiExitNetwork, wrapped
from appliance.modelling.networks.pretrained import read_weights
from tests.modelling.runs import OWN_NETWORK

pytestmark = pytest.mark.training

EXITS = {
    "digits": 4,
    "resnet18": 4,
    "resnet34": 4,
    "resnet50": 4,
    "efficientnet-b0": 3,
    "efficientnet-b1": 3,
    "efficientnet-b2": 3,
    "wav2vec2": 6,
}


@pytest.fixture(scope="module", params=EXITS)
def network(request: pytest.FixtureRequest) -> tuple[str, MultiExitNetwork]:
    torch.manual_seed(0)
    name: str = request.param
    return name, build(name, classes=5).eval().requires_grad_(requires_grad=False)


def test_a_network_answers_at_every_exit(network: tuple[str, MultiExitNetwork]) -> None:
    name, multi_exit = network

    answers = multi_exit(_noise(multi_exit))

    assert [tuple(logits.shape) for logits in answers] == [(2, 5)] * EXITS[name]


def test_subnetworks_in_a_row_answer_as_the_whole(network: tuple[str, MultiExitNetwork]) -> None:
    _, multi_exit = network
    features = _noise(multi_exit)
    answers = multi_exit(features)

    for exit_, wanted in enumerate(answers):
        output, *following = multi_exit.subnetwork(exit_)(features)
        torch.testing.assert_close(output, wanted)
        features = following[0] if following else features


def test_blocks_and_the_backbone_end_in_the_last_answer(
    network: tuple[str, MultiExitNetwork],
) -> None:
    _, multi_exit = network
    inputs = _noise(multi_exit)
    last = multi_exit(inputs)[-1]

    features = inputs
    for number in range(multi_exit.block_count):
        features = multi_exit.block(number)(features)

    torch.testing.assert_close(features, last)
    torch.testing.assert_close(multi_exit.backbone()(inputs), last)


def test_exits_that_sum_their_logits_hand_them_on() -> None:
    network = build("digits", classes=5).eval().requires_grad_(requires_grad=False)
    inputs = _noise(network)
    alone = network(inputs)
    network.sums_logits = True
    summed = network(inputs)

    features, outputs = inputs, []
    for exit_ in range(len(network.stages)):
        output, *following = network.subnetwork(exit_)(features)
        outputs.append(output)
        features = following[0] if following else features

    torch.testing.assert_close(summed[3], sum(alone[1:], start=alone[0]))
    torch.testing.assert_close(outputs, summed)


def test_efficientnet_exits_where_the_resolution_shrinks() -> None:
    shapes = build("efficientnet-b0", classes=2).feature_shapes()

    assert shapes == [(40, 28, 28), (112, 14, 14), (1280, 7, 7)]


def test_wav2vec_answers_from_the_first_time_step() -> None:
    head = build("wav2vec2", classes=2).heads[0].eval()
    features = torch.randn(1, 49, 768)
    elsewhere = torch.cat((features[:, :1], torch.randn(1, 48, 768)), dim=1)

    assert torch.equal(head(features), head(elsewhere))


def test_modules_in_a_row_get_a_classifier_each() -> None:
    steps = nn.Sequential(nn.Unflatten(1, (10, 16)), nn.Linear(16, 3))
    spec = InputSpec(shape=(160,))

    network = wrapped([steps, nn.Linear(3, 8)], kind=Kind.AUDIO, input=spec, classes=2)

    assert [head[-1].in_features for head in network.heads] == [3, 8]


def test_a_network_of_ones_own_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_my_net.py").write_text(OWN_NETWORK)
    (tmp_path / "my_net.py").write_text("from beside_my_net import build\n")

    network = build(f"{tmp_path}/my_net.py:build", classes=3)

    assert len(network.stages) == 2


def test_a_network_of_ones_own_is_named_by_file_and_function(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(OWN_NETWORK)

    network = build(f"{tmp_path}/my_net.py:build", classes=3)

    assert network.feature_shapes() == [(4, 47, 47), (6, 23, 23)]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet-9000", r"there is no network resnet-9000: choose digits, resnet18"),
        ("lost.py:build", r"there is no file lost\.py"),
        ("my_net.py:lost", r"my_net\.py has no function lost"),
        ("my_net.py:number", r"my_net\.py has no function number"),
        ("my_net.py:wrong", r"my_net\.py:wrong gave a Linear: return a MultiExitNetwork"),
    ],
)
def test_a_network_that_cannot_be_found_says_what_to_name(
    name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_net.py").write_text(OWN_NETWORK)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModellingError, match=complaint):
        build(name, classes=3)


# Pretrained backbones.


def test_a_published_checkpoint_fills_the_backbone(tmp_path: Path) -> None:
    folder = _as_published(build("resnet18", classes=5), tmp_path / "published")

    network = build("resnet18", classes=2, pretrained=folder)

    wanted = build("resnet18", classes=5, pretrained=folder)
    assert _equal(network.stages.state_dict(), wanted.stages.state_dict())
    assert network.heads[0][-1].out_features == 2


def test_a_checkpoint_with_torchvisions_names_fills_the_backbone(tmp_path: Path) -> None:
    source = build("resnet50", classes=5)
    torch.save(_torchvision_names(source), tmp_path / "resnet50.pth")

    network = build("resnet50", classes=2, pretrained=tmp_path / "resnet50.pth")

    assert _equal(network.stages.state_dict(), source.stages.state_dict())


def test_the_first_layers_of_a_larger_wav2vec_fill_the_backbone(tmp_path: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model  # noqa: PLC0415 - takes a second

    base = Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=7))
    torch.save(base.state_dict(), tmp_path / "pytorch_model.bin")

    network = build("wav2vec2", classes=2, pretrained=tmp_path)

    assert _equal(network.stages[5].state_dict(), base.encoder.layers[5].state_dict())


def test_a_run_of_another_task_fills_the_backbone(run: Path) -> None:
    network = build("digits", classes=7, pretrained=run)

    trained = torch.load(run / "weights.pth")
    assert torch.equal(network.stages[0][0][0].weight, trained["stages.0.0.0.weight"])


def test_weights_of_another_architecture_are_refused_by_name(tmp_path: Path) -> None:
    folder = _as_published(build("resnet18", classes=5), tmp_path / "published")

    with pytest.raises(ModellingError, match=r"another architecture: .* is missing, and \d+ more"):
        build("resnet34", classes=5, pretrained=folder)


def test_weights_with_too_many_layers_are_refused(tmp_path: Path) -> None:
    folder = _as_published(build("resnet34", classes=5), tmp_path / "published")

    with pytest.raises(ModellingError, match=r"another architecture: .* is not in this network"):
        build("resnet18", classes=5, pretrained=folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "holds no weights"), (b"no weights", "cannot be read as weights")],
)
def test_a_file_without_weights_is_refused(
    content: bytes | None, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ModellingError, match=complaint):
        build("resnet18", classes=5, pretrained=path)


def _noise(network: MultiExitNetwork) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *network.input.shape, generator=generator)


def _as_published(network: MultiExitNetwork, folder: Path) -> Path:
    """A folder as transformers saves a classifier: its names, its file, and a head."""
    folder.mkdir()
    weights = {f"resnet.{name}": tensor for name, tensor in _transformers_names(network).items()}
    save_file(weights | {"classifier.1.weight": torch.zeros(3)}, folder / "model.safetensors")
    return folder


def _transformers_names(network: MultiExitNetwork) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in network.stages.state_dict().items():
        stage, part, rest = name.split(".", 2)
        if stage == "0":
            layer = int(part) - 1
            place = "embedder" if part == "0" else f"encoder.stages.0.layers.{layer}"
        else:
            place = f"encoder.stages.{stage}.layers.{part}"
        weights[f"{place}.{rest}"] = tensor.clone()
    return weights


def _torchvision_names(network: MultiExitNetwork) -> dict[str, Tensor]:
    weights = {"fc.weight": torch.zeros(3)}
    for name, tensor in _transformers_names(network).items():
        match name.split("."):
            case ["embedder", "embedder", kind, leaf]:
                weights[f"{_short(kind)}1.{leaf}"] = tensor
            case ["encoder", "stages", stage, "layers", layer, "shortcut", kind, leaf]:
                number = "0" if kind == "convolution" else "1"
                weights[f"layer{int(stage) + 1}.{layer}.downsample.{number}.{leaf}"] = tensor
            case ["encoder", "stages", stage, "layers", layer, "layer", number, kind, leaf]:
                part = f"{_short(kind)}{int(number) + 1}"
                weights[f"layer{int(stage) + 1}.{layer}.{part}.{leaf}"] = tensor
    return weights


def _short(kind: str) -> str:
    return {"convolution": "conv", "normalization": "bn"}[kind]


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["weights.pth", "pytorch_model.bin", "model.safetensors"])
@given(content=st.binary(max_size=200))
@settings(deadline=None)
def test_a_file_of_other_bytes_is_no_weights(
    name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("weights") / name
    path.write_bytes(content)

    with pytest.raises(ModellingError, match=name):
        read_weights(path)
