"""Frames with labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import InputSpec, Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets import (
    ClassFolders,
    Digits,
    Example,
    Part,
    batches,
    open_dataset,
)

GREY = InputSpec(shape=(1, 96, 96), mean=(0.5,), std=(0.5,))


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


def test_sub_folders_named_by_part_are_the_parts(dataset: Path) -> None:
    folders = ClassFolders(dataset)

    sizes = {part: len(folders.examples(part)) for part in Part}

    assert folders.labels == ("0", "1")
    assert sizes == {Part.TRAIN: 4, Part.VALID: 4, Part.TEST: 4}


def test_a_folder_without_parts_is_all_for_testing(dataset: Path) -> None:
    folders = ClassFolders(dataset / "test")

    assert len(folders.examples(Part.TEST)) == 4
    assert folders.examples(Part.VALID) == []


def test_a_missing_dataset_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(ModellingError, match=r"missing: name one that holds a sub-folder"):
        open_dataset(None, tmp_path / "missing")


def test_an_empty_class_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()

    with pytest.raises(ModellingError, match=r"7 is empty"):
        ClassFolders(tmp_path).examples(Part.TEST)


def test_a_corrupt_frame_is_refused_by_name() -> None:
    example = Example(name="broken.jpg", label="0", read=lambda: b"\xff\xd8\xff broken")

    with pytest.raises(ModellingError, match=r"broken\.jpg is no frame to learn from"):
        list(batches([example], 1, labels=["0"], spec=GREY, kind=Kind.IMAGE))


def test_a_label_that_the_network_lacks_is_refused_by_name() -> None:
    example = Digits().examples(Part.TEST)[0]

    with pytest.raises(ModellingError, match=f"{example.name} has the label {example.label}"):
        list(batches([example], 1, labels=["cat"], spec=GREY, kind=Kind.IMAGE))
