"""Speech Commands v0.02, in the layout that it is published in."""

from __future__ import annotations

from pathlib import Path

from appliance.engine import Kind
from appliance.errors import ModellingError
from appliance.modelling.datasets.dataset import Example, Part
from appliance.modelling.datasets.files import (
    example_of,
    files_in,
    lines_of,
    require_folder,
    sub_folders,
)

SOURCE = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
DESCRIPTION = f"35 spoken words; --dataset-dir holds a sub-folder a word as unpacked from {SOURCE}"
_ADVICE = (
    f"get {SOURCE}, unpack it into a folder of its own, and name with --dataset-dir that folder,"
    " which holds WORD/SPEAKER_nohash_N.wav, validation_list.txt and testing_list.txt"
)
_LISTS = {Part.VALID: "validation_list.txt", Part.TEST: "testing_list.txt"}


class SpeechCommands:
    """Warden 2018: `WORD/SPEAKER_nohash_N.wav`, and two lists of those that are held out.

    What neither list names is for training. Folders that begin with an underscore hold noise, not
    words.
    """

    kind = Kind.AUDIO

    def __init__(self, folder: Path | None) -> None:
        if folder is None:
            raise ModellingError(f"Speech Commands is to be had, not shipped: {_ADVICE}")
        require_folder(folder, _ADVICE)
        listed = {part: lines_of(folder / name, _ADVICE) for part, name in _LISTS.items()}
        words = [word for word in sub_folders(folder) if not word.startswith("_")]
        if not words:
            raise ModellingError(f"{folder} holds no folder of a word: {_ADVICE}")
        sounds = {f"{word}/{name}": word for word in words for name in files_in(folder / word)}
        for part, paths in listed.items():
            _require_all(paths, sounds, folder, folder / _LISTS[part])
        held_out = {path.strip(): part for part, paths in listed.items() for path in paths}
        self._labels = tuple(words)
        self._examples: dict[Part, list[Example]] = {part: [] for part in Part}
        for path, word in sounds.items():
            part = held_out.get(path, Part.TRAIN)
            self._examples[part].append(example_of(folder, path, word))
        trained = {example.label for example in self._examples[Part.TRAIN]}
        for word in words:
            if word not in trained:
                raise ModellingError(
                    f"{folder / word} holds no sound to train with: add some that no list names,"
                    " or remove it"
                )

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def examples(self, part: Part, *, view: int = 0) -> list[Example]:  # noqa: ARG002 - files have one view
        return list(self._examples[part])


def _require_all(paths: list[str], sounds: dict[str, str], folder: Path, listing: Path) -> None:
    for number, path in enumerate(paths, start=1):
        if path.strip() not in sounds:
            raise ModellingError(
                f"{listing}:{number} lists {path.strip()}, but there is no"
                f" {folder / path.strip()}: unpack the archive again"
            )
