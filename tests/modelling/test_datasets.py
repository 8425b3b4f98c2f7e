"""Frames with labels: digits, published datasets, and anybody's folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets import (
    ClassFolders,
    Dataset,
    Digits,
    Example,
    Food101,
    HeldOutFrames,
    Part,
    SpeechCommands,
    batches,
    open_dataset,
)
from appliance.modelling.datasets.files import drawn
from tests.modelling.trees import food101_tree, speech_commands_tree, write_jpeg, write_wav

GREY = InputSpec(shape=(1, 96, 96), mean=(0.5,), std=(0.5,))
SECOND = InputSpec(shape=(16_000,))


def sizes(dataset: Dataset) -> tuple[int, int, int]:
    train, valid, test = (len(dataset.examples(part)) for part in Part)
    return train, valid, test


# Digits.


def test_a_frame_of_a_scan_is_always_the_same() -> None:
    first, second = (Digits().examples(Part.TEST)[7].read() for _ in range(2))

    assert first == second


def test_another_view_of_a_scan_is_another_frame() -> None:
    digits = Digits()

    first, second = (digits.examples(Part.TRAIN, view=view)[7].read() for view in (1, 2))

    assert first != second


def test_no_scan_is_in_two_parts() -> None:
    digits = Digits()

    names = [example.name for part in Part for example in digits.examples(part)]

    assert len(names) == len(set(names)) == 1797


def test_every_digit_is_held_out_equally_often() -> None:
    labels = [example.label for example in Digits().examples(Part.TEST)]

    assert {label: labels.count(label) for label in labels} == {str(d): 36 for d in range(10)}


def test_digits_need_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match="need no folder: leave out --dataset-dir"):
        open_dataset("digits", tmp_path)


# Food-101.


def test_food101_is_split_as_published_with_a_fifth_of_training_for_validation(
    tmp_path: Path,
) -> None:
    food = open_dataset("food-101", food101_tree(tmp_path, per_class=20))

    assert food.labels == ("apple_pie", "sushi")
    assert food.kind is Kind.IMAGE
    assert sizes(food) == (24, 6, 10)
    tested = {Path(example.name).stem for example in food.examples(Part.TEST)}
    assert tested == {str(100_000 * c + image) for c in (1, 2) for image in range(5)}


def test_food101_may_lie_in_the_folder_that_the_archive_makes(tmp_path: Path) -> None:
    food101_tree(tmp_path / "food-101")

    assert sizes(Food101(tmp_path))[2] == 4


def test_food101_classes_are_in_the_published_order(tmp_path: Path) -> None:
    food = Food101(food101_tree(tmp_path, classes=("sushi", "apple_pie")))

    assert food.labels == ("sushi", "apple_pie")


def test_a_missing_food101_says_where_to_get_it_and_what_it_looks_like(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "lost"):
        with pytest.raises(ModellingError, match=r"data\.vision\.ee\.ethz\.ch.*meta/train\.txt"):
            open_dataset("food-101", folder)


@pytest.mark.parametrize("name", ["classes.txt", "train.txt", "test.txt"])
def test_a_missing_list_of_food101_is_named(name: str, tmp_path: Path) -> None:
    (food101_tree(tmp_path) / "meta" / name).unlink()

    with pytest.raises(ModellingError, match=rf"there is no file .*{name}"):
        Food101(tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("apple_pie", r"train\.txt:1: 'apple_pie' is no CLASS/ID"),
        ("pizza/7", r"train\.txt:1: pizza is no class of .*classes\.txt"),
        ("sushi/7", r"train\.txt:1 lists sushi/7, but there is no .*sushi/7\.jpg"),
    ],
)
def test_a_wrong_line_of_food101_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    listing = food101_tree(tmp_path) / "meta" / "train.txt"
    listing.write_text(f"{line}\n{listing.read_text()}")

    with pytest.raises(ModellingError, match=complaint):
        Food101(tmp_path)


def test_a_class_of_food101_without_images_is_named(tmp_path: Path) -> None:
    classes = food101_tree(tmp_path) / "meta" / "classes.txt"
    classes.write_text(f"{classes.read_text()}pizza\n")

    with pytest.raises(ModellingError, match=r"train\.txt lists no image of pizza"):
        Food101(tmp_path)


# Speech Commands.


@pytest.mark.parametrize("name", ["speech-commands", "speech_commands"])
def test_speech_commands_are_split_by_the_published_lists(name: str, tmp_path: Path) -> None:
    speech = open_dataset(name, speech_commands_tree(tmp_path))

    assert speech.labels == ("no", "yes")
    assert speech.kind is Kind.AUDIO
    assert sizes(speech) == (8, 4, 4)


def test_sounds_are_decoded_at_the_inputs_rate(tmp_path: Path) -> None:
    speech = SpeechCommands(speech_commands_tree(tmp_path))

    (batch,) = batches(
        speech.examples(Part.TEST), 4, labels=speech.labels, spec=SECOND, kind=Kind.AUDIO
    )

    assert batch.inputs.shape == (4, 16_000)
    assert batch.classes.tolist() == [0, 0, 1, 1]


def test_missing_speech_commands_say_where_to_get_them(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "lost"):
        with pytest.raises(ModellingError, match=r"speech_commands_v0\.02.*testing_list\.txt"):
            open_dataset("speech-commands", folder)


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_a_missing_list_of_speech_commands_is_named(name: str, tmp_path: Path) -> None:
    (speech_commands_tree(tmp_path) / name).unlink()

    with pytest.raises(ModellingError, match=rf"there is no file .*{name}"):
        SpeechCommands(tmp_path)


def test_a_listed_sound_that_is_missing_is_named(tmp_path: Path) -> None:
    (speech_commands_tree(tmp_path) / "yes" / "00000000_nohash_0.wav").unlink()

    with pytest.raises(ModellingError, match=r"validation_list\.txt:3 lists yes/00000000_nohash"):
        SpeechCommands(tmp_path)


def test_a_word_that_is_only_held_out_is_named(tmp_path: Path) -> None:
    folder = speech_commands_tree(tmp_path)
    for path in (folder / "yes").glob("*[4-7]_nohash_0.wav"):
        path.unlink()

    with pytest.raises(ModellingError, match=r"yes holds no sound to train with"):
        SpeechCommands(folder)


# Folders of class folders.


def test_sub_folders_named_by_part_are_the_parts(dataset: Path) -> None:
    folders = ClassFolders(dataset)

    assert folders.labels == ("0", "1")
    assert sizes(folders) == (4, 4, 4)


def test_training_frames_give_a_validation_part_where_there_is_none(tmp_path: Path) -> None:
    _images(tmp_path / "train", labels=("cat", "dog"), count=10)
    _images(tmp_path / "test", labels=("cat", "dog"), count=2)

    assert sizes(ClassFolders(tmp_path)) == (16, 4, 4)


def test_a_folder_without_parts_is_for_training_and_validation(tmp_path: Path) -> None:
    _images(tmp_path, labels=("cat", "dog"), count=10)

    assert sizes(ClassFolders(tmp_path)) == (16, 4, 0)


def test_sounds_in_class_folders_are_sounds(tmp_path: Path) -> None:
    (tmp_path / "hum").mkdir()
    write_wav(tmp_path / "hum" / "1.WAV", pitch_hz=50.0)

    assert ClassFolders(tmp_path).kind is Kind.AUDIO


def test_hidden_files_are_no_frames(tmp_path: Path) -> None:
    _images(tmp_path, labels=("cat",), count=2)
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"")
    (tmp_path / ".git").mkdir()

    assert ClassFolders(tmp_path).labels == ("cat",)


def test_an_empty_class_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()

    with pytest.raises(ModellingError, match=r"7 is empty"):
        ClassFolders(tmp_path)


def test_a_file_that_is_no_frame_is_refused_by_name(tmp_path: Path) -> None:
    _images(tmp_path, labels=("cat",), count=2)
    (tmp_path / "cat" / "notes.txt").write_text("purrs")

    with pytest.raises(ModellingError, match=r"notes\.txt is no frame: only \.jpg"):
        ClassFolders(tmp_path)


def test_images_among_sounds_are_refused_by_name(tmp_path: Path) -> None:
    _images(tmp_path, labels=("cat",), count=1)
    write_wav(tmp_path / "cat" / "purr.wav", pitch_hz=25.0)

    with pytest.raises(ModellingError, match=r"purr\.wav a sound: keep one kind"):
        ClassFolders(tmp_path)


def test_a_missing_dataset_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match=r"missing: name one that holds a sub-folder"):
        open_dataset(None, tmp_path / "missing")


def test_an_unknown_dataset_names_those_there_are() -> None:
    with pytest.raises(ModellingError, match="no dataset imagenet: choose digits, food-101, sp"):
        open_dataset("imagenet", None)


def test_the_frames_of_an_engine_are_all_for_testing(tmp_path: Path) -> None:
    _images(tmp_path, labels=("cat", "dog"), count=10)

    assert sizes(HeldOutFrames(tmp_path)) == (0, 0, 20)


# Drawing and decoding.


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 30), min_size=1))
def test_a_fifth_of_every_label_is_drawn_and_every_label_is_trained(counts: dict[str, int]) -> None:
    examples = [
        Example(name=f"{label}/{number}", label=label, read=bytes)
        for label, count in counts.items()
        for number in range(count)
    ]

    train, valid = drawn(examples)

    names = [example.name for example in (*train, *valid)]
    assert sorted(names) == sorted(example.name for example in examples)
    assert {example.label for example in train} == set(counts)
    for label, count in counts.items():
        drawn_of_label = sum(example.label == label for example in valid)
        assert drawn_of_label == (max(1, round(count / 5)) if count > 1 else 0)


def test_what_is_drawn_depends_on_no_order_and_on_no_other_label() -> None:
    cats, dogs = (
        [Example(name=f"{label}/{number}", label=label, read=bytes) for number in range(20)]
        for label in ("cat", "dog")
    )

    _, of_cats = drawn(cats)
    _, of_both = drawn([*reversed(cats), *dogs])

    assert [e for e in of_both if e.label == "cat"] == of_cats


def test_a_corrupt_frame_is_refused_by_name() -> None:
    example = Example(name="broken.jpg", label="0", read=lambda: b"\xff\xd8\xff broken")

    with pytest.raises(ModellingError, match=r"broken\.jpg is no frame to learn from"):
        list(batches([example], 1, labels=["0"], spec=GREY, kind=Kind.IMAGE))


def test_a_label_that_the_network_lacks_is_refused_by_name() -> None:
    example = Digits().examples(Part.TEST)[0]

    with pytest.raises(ModellingError, match=f"{example.name} has the label {example.label}"):
        list(batches([example], 1, labels=["cat"], spec=GREY, kind=Kind.IMAGE))


def _images(folder: Path, *, labels: tuple[str, ...], count: int) -> None:
    for hue, label in enumerate(labels):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write_jpeg(folder / label / f"{number}.jpg", hue=hue, seed=number)
