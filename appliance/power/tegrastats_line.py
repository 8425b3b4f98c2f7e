"""Lines of tegrastats, of any board and any JetPack: their rails and temperatures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from appliance.errors import MeterError
from appliance.power.protocol import total_of

OFF_C = -256.0
"""What a sensor says that is switched off."""

NOT_CONNECTED = "NC"

MAX_PLAUSIBLE_W = 10_000.0
"""No board takes more; a line that says so is none."""

MAX_CHARACTERS = 8 * 1024
"""Lines have some hundreds; what is much longer is not searched through."""

_NUMBER = r"-?\d{1,15}"
_CELSIUS = r"-?\d{1,4}(?:\.\d{1,15})?"
_TEMPERATURE = re.compile(
    rf"(?<!\S)(?P<name>[^\s@\[\]]+)@(?P<celsius>{_CELSIUS})C(?:/{_CELSIUS}C)?(?!\S)", re.ASCII
)
_VALUE = rf"{_NUMBER}(?:mW)?(?:/{_NUMBER}(?:mW)?){{0,2}}"
_RAIL = re.compile(rf"(?P<name>[A-Za-z][\w.-]*) (?P<value>{_VALUE})(?!\S)", re.ASCII)
_RAILS = re.compile(rf"(?:[A-Za-z][\w.-]* {_VALUE}(?:\s+|$))+", re.ASCII)
_MARKED_RAILS = re.compile(
    rf"(?<!\S)(?:(?!I?RAM |SWAP )[A-Za-z][\w.-]* {_NUMBER}(?:mW|(?=/))(?:/\S+)?(?:\s+|$))+\Z",
    re.ASCII,
)
_MEMORY = re.compile(r"(?<!\S)RAM \d+/\d+MB ", re.ASCII)
_DIGITS = re.compile(r"-?\d+", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What one line says, in watts and degrees Celsius."""

    rails_w: dict[str, float]
    total_of: tuple[str, ...]
    temperatures_c: dict[str, float]

    @property
    def total_w(self) -> float:
        """The board's power, or that of the module where no rail carries the board's."""
        return sum(self.rails_w[name] for name in self.total_of)


def parse_line(text: str) -> Line:
    """What a whole line says. Raises MeterError where it is none, or was cut off.

    Rails stand at the end, after the temperatures, with one, two or three values (now, average,
    peak) in mW, of which the first counts. Every rail of a line has the same form: one that
    differs was cut off.
    """
    if len(text) > MAX_CHARACTERS:
        raise MeterError("it is far too long for a line of tegrastats")
    temperatures = list(_TEMPERATURE.finditer(text))
    rails_w = _rails_w(_rails_part(text, temperatures))
    return Line(
        rails_w=rails_w,
        total_of=total_of(rails_w),
        temperatures_c={
            match["name"]: celsius
            for match in temperatures
            if (celsius := float(match["celsius"])) != OFF_C
        },
    )


def _rails_part(text: str, temperatures: list[re.Match[str]]) -> str:
    if temperatures:
        return text[temperatures[-1].end() :].strip()
    # With nothing to stand after, a rail must show itself by unit or average: `APE 25` is none.
    # And what does not begin as every line does may begin within a rail's name.
    match = _MARKED_RAILS.search(text.strip())
    return "" if match is None or _MEMORY.search(text[: match.start()]) is None else match[0]


def _rails_w(part: str) -> dict[str, float]:
    if not part:
        raise MeterError("no rails in it: it was cut off, or is no line of tegrastats")
    if _RAILS.fullmatch(part) is None:
        raise MeterError(f"its rails cannot be read, or were cut off: {_shortened(part)!r}")
    rails = [(match["name"], match["value"]) for match in _RAIL.finditer(part)]
    if len({_form(value) for _, value in rails}) > 1:
        raise MeterError(f"its last rail was cut off: {' '.join(rails[-1])!r}")
    rails_w = {name: int(_first(value)) / 1000 for name, value in rails if name != NOT_CONNECTED}
    if not rails_w:
        raise MeterError("none of its rails is connected")
    if any(abs(watts) > MAX_PLAUSIBLE_W for watts in rails_w.values()):
        raise MeterError("it tells of more power than any board takes")
    return rails_w


def _form(value: str) -> str:
    return _DIGITS.sub("", value)


def _first(value: str) -> str:
    match = _DIGITS.match(value)
    return match[0] if match else ""


def _shortened(part: str) -> str:
    return part if len(part) <= 60 else f"...{part[-60:]}"


def read_log(lines: Iterable[str]) -> Iterator[tuple[int, Line | MeterError]]:
    """What the lines of a log say, with their numbers from 1.

    `lines` carry their line ends. One without may have been cut off where that does not show in
    it: it counts where its values are whole and no rail of the line before it is missing.
    """
    before: Line | None = None
    for number, text in enumerate(lines, start=1):
        try:
            line = parse_line(text)
            if not text.endswith("\n"):
                _require_whole(text, line, before)
        except MeterError as error:
            yield number, error
        else:
            before = line
            yield number, line


def _require_whole(text: str, line: Line, before: Line | None) -> None:
    missing = [name for name in before.rails_w if name not in line.rails_w] if before else []
    if missing:
        raise MeterError(f"it was cut off before {', '.join(missing)}: it has no line end")
    last = text.rsplit(maxsplit=1)[-1]
    if not last.endswith("mW") and "/" not in last:
        raise MeterError(f"its last value {last!r} may be cut off: it has no line end")
