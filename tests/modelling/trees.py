"""Small datasets in the layouts that they are published in, with real JPEGs and WAVs."""

from __future__ import annotations

import json
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = (64, 48)
RATE_HZ = 16_000


def food101_tree(
    folder: Path, *, classes: Sequence[str] = ("apple_pie", "sushi"), per_class: int = 8
) -> Path:
    """As food-101.tar.gz unpacks: three quarters of each class train, as in the whole."""
    train: dict[str, list[str]] = {}
    test: dict[str, list[str]] = {}
    for number, name in enumerate(classes):
        (folder / "images" / name).mkdir(parents=True)
        paths = [f"{name}/{100_000 * (number + 1) + image}" for image in range(per_class)]
        for image, path in enumerate(paths):
            write_jpeg(folder / "images" / f"{path}.jpg", hue=number, seed=image)
        held_out = per_class // 4
        train[name], test[name] = paths[held_out:], paths[:held_out]
    meta = folder / "meta"
    meta.mkdir()
    (meta / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    titles = (name.replace("_", " ").capitalize() for name in classes)
    (meta / "labels.txt").write_text("".join(f"{title}\n" for title in titles))
    for part, paths_of in (("train", train), ("test", test)):
        lines = [path for paths in paths_of.values() for path in paths]
        (meta / f"{part}.txt").write_text("\n".join(lines))
        (meta / f"{part}.json").write_text(json.dumps(paths_of))
    (folder / "README.txt").write_text("Food-101")
    return folder


def speech_commands_tree(
    folder: Path, *, words: Sequence[str] = ("no", "yes"), per_word: int = 8
) -> Path:
    """As speech_commands_v0.02.tar.gz unpacks: of each word a fourth validates, a fourth tests."""
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for number, word in enumerate(words):
        (folder / word).mkdir(parents=True)
        names = [f"{word}/{speaker:08x}_nohash_0.wav" for speaker in range(per_word)]
        for speaker, name in enumerate(names):
            write_wav(folder / name, pitch_hz=300.0 * (number + 1), seed=speaker)
        quarter = per_word // 4
        lists["validation_list.txt"] += names[:quarter]
        lists["testing_list.txt"] += names[quarter : 2 * quarter]
    for name, lines in lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    (folder / "_background_noise_").mkdir()
    write_wav(folder / "_background_noise_" / "white_noise.wav", pitch_hz=0.0, seconds=3.0)
    for name in ("LICENSE", "README.md"):
        (folder / name).write_text("Speech Commands")
    (folder / ".DS_Store").write_bytes(b"\0")
    return folder


def write_jpeg(path: Path, *, hue: int, seed: int = 0) -> None:
    """A noisy image whose colour tells its class."""
    noise = np.random.default_rng(seed).integers(0, 80, size=(SIZE[1], SIZE[0], 3))
    noise[..., hue % 3] += 150
    Image.fromarray(noise.astype(np.uint8)).save(path, "JPEG")


def write_wav(path: Path, *, pitch_hz: float, seconds: float = 1.0, seed: int = 0) -> None:
    """A noisy tone whose pitch tells its class, as 16-bit mono."""
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(seed).normal(scale=0.05, size=len(times_s))
    samples: NDArray[np.float64] = 0.5 * np.sin(2 * np.pi * pitch_hz * times_s) + noise
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE_HZ)
        sound.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
