"""Engine folders: ours and Dělen's, and what is wrong with the others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from appliance import manifest
from appliance.engine import Kind
from appliance.errors import EngineError
from tests.engines import seed_engine, tiny_engine
from tests.test_run_command import RESNET50

README = Path(__file__).parent.parent / "engines" / "README.md"


def edit(folder: Path, **fields: object) -> Path:
    path = folder / manifest.MANIFEST
    document = yaml.safe_load(path.read_text()) | fields
    path.write_text(yaml.safe_dump(document))
    return folder


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    engine = manifest.load(folder)

    manifest.save(engine, folder)

    assert manifest.load(folder) == engine
    assert engine.stages[0].latency[1].p95_s == 0.001
    assert engine.energy_to_j == pytest.approx((0.01, 0.03, 0.06, 0.10))


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny", accuracies=(None,), energies_j=(None,))
    (folder / manifest.MANIFEST).write_text(
        "name: tiny\nkind: tensor\ninput: {shape: [4]}\nstages: [{onnx: stage0.onnx}]\n"
    )

    engine = manifest.load(folder)

    assert engine.stages[0].temperature == 1.0
    assert engine.energy_to_j == (None,)
    assert engine.label(2) == "2"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "video"}, "kind"),
        ({"stages": []}, "stages"),
        ({"stages": [{"onnx": "missing.onnx"}]}, "no file missing.onnx"),
        ({"stages": [{"onnx": "../../etc/passwd"}]}, "not inside"),
        ({"stages": [{"onnx": "/etc/passwd"}]}, "not inside"),
        ({"stages": [{"onnx": "stage0.onnx", "accuracy": 1.5}]}, "stages[0].accuracy"),
        ({"stages": [{"onnx": "stage0.onnx", "energy": -1}]}, "stages[0].energy"),
        ({"colour": "red"}, "colour"),
        ({"input": {"shape": [0]}}, "input.shape"),
        ({"input": {"shape": [3, 8, 8], "mean": [0.5, 0.5]}}, "mean has 2 values for 3 channels"),
        ({"input": {"shape": [1, 8, 8], "std": [0.0]}}, "input.std[0]"),
        ({"stages": [{"accuracy": 0.5}]}, "stages[0]: the stage has no file"),
        (
            {"stages": [{"onnx": "stage0.onnx", "latency": {0: {"p50": 0.1, "p95": 0.1}}}]},
            "stages[0].latency",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    folder = edit(tiny_engine(tmp_path / "tiny"), **fields)

    with pytest.raises(EngineError) as error:
        manifest.load(folder)

    assert said in str(error.value)
    assert "engine.yaml" in str(error.value)


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    stages = [{"onnx": "stage0.onnx", "accuracy": 2}, {"onnx": "a.onnx"}, {"onnx": "../b.onnx"}]
    folder = edit(tiny_engine(tmp_path / "tiny"), kind="video", stages=stages)

    with pytest.raises(EngineError) as error:
        manifest.load(folder)

    for said in ("kind", "stages[0].accuracy", "stages[1].onnx", "stages[2].onnx"):
        assert said in str(error.value)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    (tmp_path / "secret").write_text("x")
    (folder / "link.onnx").symlink_to(tmp_path / "secret")
    edit(folder, stages=[{"onnx": "link.onnx"}])

    with pytest.raises(EngineError, match="not inside"):
        manifest.load(folder)


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    folder = tiny_engine(tmp_path / "tiny")
    (folder / manifest.MANIFEST).write_text("name: tiny\nkind: [")

    with pytest.raises(EngineError, match="line 2"):
        manifest.load(folder)


def test_delens_own_layout_loads_in_si_and_knows_the_dominated_exit(tmp_path: Path) -> None:
    engine = manifest.load(seed_engine(tmp_path / "resnet50", RESNET50))

    assert (engine.name, engine.kind, engine.input.shape) == ("resnet50", Kind.IMAGE, (3, 8, 8))
    assert engine.energy_to_j == pytest.approx((0.04599, 0.09931, 0.17675, 0.24355))
    assert engine.flops_to == pytest.approx(
        (0.812877056e9, 1.856489216e9, 3.331917568e9, 4.144599296e9)
    )
    assert engine.dominated_exits == (3,)
    assert engine.better_exit == (1, 2, None, None)


@pytest.mark.parametrize("place", ["trt", "onnx", "subnetworks", "."])
def test_its_stages_are_found_wherever_delen_puts_them(tmp_path: Path, place: str) -> None:
    engine = manifest.load(seed_engine(tmp_path / "resnet50", RESNET50, place=place))

    assert [stage.onnx.name for stage in engine.stages if stage.onnx] == [
        f"resnet50_net{number}.onnx" for number in range(4)
    ]


def test_twelve_stages_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    engine = manifest.load(seed_engine(tmp_path / "deep", [RESNET50[0]] * 12))

    names = [stage.onnx.name for stage in engine.stages if stage.onnx]
    assert names == [f"deep_net{number}.onnx" for number in range(12)]


def test_a_stage_has_its_tensorrt_engine_beside_it(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)
    for path in list((folder / "trt").iterdir()):
        path.with_suffix(".engine").touch()

    engine = manifest.load(folder)

    assert [stage.tensorrt.name for stage in engine.stages if stage.tensorrt] == [
        f"resnet50_net{number}.engine" for number in range(4)
    ]


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense", '[{"accuracy": 2}]'])
def test_a_broken_profile_of_delens_is_named(tmp_path: Path, text: str) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)
    (folder / "resnet50_profile.json").write_text(text)

    with pytest.raises(EngineError, match=r"resnet50_profile\.json is no profile"):
        manifest.load(folder)


def test_another_count_of_stages_than_exits_is_an_error(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)
    (folder / "trt" / "resnet50_net3.onnx").unlink()

    with pytest.raises(EngineError, match="3 ONNX stages, but 4 exits"):
        manifest.load(folder)


def test_engines_for_tensorrt_alone_say_where_they_run(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "resnet50", RESNET50)
    for path in (folder / "trt").iterdir():
        path.rename(path.with_suffix(".engine"))

    with pytest.raises(EngineError, match="on the board that they were built for"):
        manifest.load(folder)


def test_find_lists_the_folders_that_hold_an_engine(tmp_path: Path) -> None:
    tiny_engine(tmp_path / "tiny")
    seed_engine(tmp_path / "resnet50", RESNET50)
    (tmp_path / "notes").mkdir()

    assert sorted(manifest.find(tmp_path)) == ["resnet50", "tiny"]
    assert manifest.find(tmp_path / "nowhere") == {}


def test_the_example_in_the_readme_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    folder = tiny_engine(tmp_path / "tiny")
    (folder / manifest.MANIFEST).write_text(example)

    engine = manifest.load(folder)

    assert engine.stages[0].latency[8].p50_s == 0.0072
    assert engine.stages[0].flops == 12.3e6


def test_every_field_of_a_manifest_is_documented(tmp_path: Path) -> None:
    text = README.read_text()
    document = yaml.safe_load((tiny_engine(tmp_path / "tiny") / manifest.MANIFEST).read_text())

    for field in (*document, *document["input"], *document["stages"][0]):
        assert f"`{field}`" in text, field


# What a manifest, a link or a policy names must lie in the engines folder.


def leading_out(tmp_path: Path, name: str) -> Path:
    outside = tmp_path / "outside" / Path(name).name
    outside.parent.mkdir(exist_ok=True)
    return outside


def moved_out(tmp_path: Path, path: Path) -> None:
    """Leaves a link where a file was."""
    outside = leading_out(tmp_path, path.name)
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize("name", ["engine.yaml", "stage0.onnx"])
def test_an_engine_whose_file_is_a_link_out_of_its_folder_is_not_opened(
    tmp_path: Path, name: str
) -> None:
    folder = tiny_engine(tmp_path / "engines" / "tiny")
    moved_out(tmp_path, folder / name)

    with pytest.raises(EngineError, match=r"leads out|not inside"):
        manifest.load(folder)


@pytest.mark.parametrize(
    "name", ["seed_profile.json", "trt/seed_net0.onnx", "trt/seed_net1.engine"]
)
def test_a_link_out_of_delens_own_layout_is_not_followed(tmp_path: Path, name: str) -> None:
    folder = seed_engine(tmp_path / "engines" / "seed", RESNET50)
    (folder / "trt" / "seed_net1.engine").touch()
    moved_out(tmp_path, folder / name)

    with pytest.raises(EngineError, match="leads out"):
        manifest.load(folder)


def test_a_folder_that_is_a_link_out_of_the_engines_folder_is_no_engine(tmp_path: Path) -> None:
    engines = tmp_path / "engines"
    tiny_engine(engines / "tiny")
    tiny_engine(tmp_path / "outside")
    (engines / "linked").symlink_to(tmp_path / "outside")
    (engines / "circle").symlink_to(engines / "circle")
    (engines / "renamed").symlink_to(engines / "tiny")

    assert manifest.find(engines).keys() == {"tiny", "renamed"}


@pytest.mark.parametrize(
    "name",
    ["../outside", "..", ".", "", "tiny/", "./tiny", "tiny/../tiny", "{tmp}/outside", "tiny\0"],
)
def test_a_policys_engine_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    engines = tmp_path / "engines"
    tiny_engine(engines / "tiny")
    tiny_engine(tmp_path / "outside")

    assert manifest.find(engines).get(name.format(tmp=tmp_path)) is None


@pytest.mark.parametrize(
    "name",
    [
        "../outside/stage0.onnx",
        "{tmp}/outside/stage0.onnx",
        "circle",
        "up/stage0.onnx",
        "a\0b",
        ".",
    ],
)
@pytest.mark.parametrize("backend", ["onnx", "tensorrt"])
def test_a_stage_outside_of_the_folder_is_not_opened(
    tmp_path: Path, name: str, backend: str
) -> None:
    folder = tiny_engine(tmp_path / "engines" / "tiny")
    tiny_engine(tmp_path / "engines" / "outside")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "up").symlink_to(tmp_path / "engines" / "outside")
    edit(folder, stages=[{backend: name.format(tmp=tmp_path / "engines")}])

    with pytest.raises(EngineError, match=r"stages\[0\]"):
        manifest.load(folder)


def test_a_pipe_in_an_engine_folder_is_not_waited_for(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "seed", RESNET50)
    os.mkfifo(folder / "a_profile.json")
    os.mkfifo(folder / "trt" / "a.onnx")

    assert manifest.load(folder).name == "seed"


def test_a_profile_that_is_nested_very_deep_is_named(tmp_path: Path) -> None:
    folder = seed_engine(tmp_path / "seed", RESNET50)
    (folder / "seed_profile.json").write_text("[" * 100_000)

    with pytest.raises(EngineError, match="no profile"):
        manifest.load(folder)
