"""The parser of tegrastats' lines, one by one and as a log."""

from __future__ import annotations

import math
import random

from appliance.errors import MeterError
from appliance.power.tegrastats_line import MAX_PLAUSIBLE_W, Line, read_log
from tests.fuzz import flat
from tests.fuzz.target import Target

_TOKENS = (
    "VDD_IN", "NC", "POM_5V_IN", "4000mW/3950mW", "4000/3950", "0/0/0", "4000mW", "-1mW/-1mW",
    "9" * 16,
    "CPU@41C", "tj@-256C", "GPU@35.5C/30C", "RAM 1/2MB ", "RAM", "@C", "[1%@729,off]", "\u0660mW",
    "-", "/",
)  # fmt: skip


def check(data: bytes) -> None:
    """Every line is a reading of finite watts, or an error."""
    for number, line in read_log(data.decode("utf-8", "replace").splitlines(keepends=True)):
        assert number >= 1
        if isinstance(line, MeterError):
            continue
        _check_line(line)


def _check_line(line: Line) -> None:
    assert line.rails_w
    assert set(line.total_of) <= set(line.rails_w)
    assert math.isfinite(line.total_w)
    assert all(abs(watts) <= MAX_PLAUSIBLE_W for watts in line.rails_w.values())
    assert all(math.isfinite(celsius) for celsius in line.temperatures_c.values())


def retoken(data: bytes, rng: random.Random) -> bytes:
    """A line with a word changed, gone, or come very often."""
    words = data.split(b" ")
    place = rng.randrange(len(words))
    token = rng.choice((rng.choice(_TOKENS).encode(), rng.choice(words)))
    words[place : place + rng.randrange(2)] = [token] * (flat.repetitions(rng) - rng.randrange(2))
    return b" ".join(words)[:20_000]


TEGRASTATS = Target(
    name="tegrastats", check=check, mutations=(retoken, retoken, retoken, *flat.FLAT)
)
