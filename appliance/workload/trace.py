"""What a trace says: when requests come, and from whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import WorkloadError
from appliance.quantities import Dimension, QuantityError, parse_quantity
from appliance.simulation import Answers

BUSY_S, QUIET_S = 10.0, 50.0
"""How long the phases of a bursty load are on average, where nothing else is said."""

FORMS = (
    "a file, poisson:RATE, poisson:TENANT=RATE,…,"
    " bursty:QUIET..BUSY[@BUSY_TIME/QUIET_TIME], or log:DURATION"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A request that comes. `at_s` counts from the begin of the trace.

    `label` asks for a frame that shows it; `answers` are what the network says to this one,
    logits of shape (exits, classes). Without either any frame will do.
    """

    at_s: float
    tenant: str
    label: str | None = None
    answers: Answers | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Poisson:
    """Requests that know nothing of one another, at a mean rate."""

    rate_hz: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bursty:
    """A Poisson process that switches between two rates (Markov-modulated, Fischer 1993).

    The time in either phase is exponential; it begins quiet.
    """

    quiet_hz: float
    busy_hz: float
    busy_s: float = BUSY_S
    quiet_s: float = QUIET_S

    @property
    def rate_hz(self) -> float:
        """The mean rate in the long run."""
        busy = self.busy_s / (self.busy_s + self.quiet_s)
        return busy * self.busy_hz + (1.0 - busy) * self.quiet_hz


Process = Poisson | Bursty


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """Requests of a process: the same for every tenant, or one by tenant."""

    every: Process | None = None
    by_tenant: Mapping[str, Process] | None = None

    def of(self, tenants: list[str]) -> dict[str, Process]:
        """The process of each tenant. Raises WorkloadError where one has none, or is not there."""
        if self.every is not None:
            return dict.fromkeys(tenants, self.every)
        by_tenant = dict(self.by_tenant or {})
        if by_tenant.keys() != set(tenants):
            strange = ", ".join(sorted(by_tenant.keys() ^ set(tenants)))
            raise WorkloadError(
                f"the trace and the policies differ in {strange}: give each tenant a policy and"
                " a rate, or all of them one rate"
            )
        return by_tenant


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """Requests as a file tells of them."""

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """Requests as the inference log holds them, the last so many seconds."""

    seconds: float


Trace = Generated | Recorded | Logged


def parse_trace(text: str) -> Trace:
    """The trace that a text names: see FORMS. Raises WorkloadError."""
    kind, colon, rest = text.partition(":")
    if kind == "poisson" and colon:
        return _generated(rest, text, lambda rate: Poisson(rate_hz=_rate_hz(rate, text)))
    if kind == "bursty" and colon:
        rates, _, phases = rest.partition("@")
        busy_s, quiet_s = _phases_s(phases, text) if phases else (BUSY_S, QUIET_S)
        return _generated(rates, text, lambda pair: _bursty(pair, busy_s, quiet_s, text))
    if kind == "log" and colon:
        return Logged(seconds=_quantity(rest, Dimension.TIME, text))
    path = Path(text)
    if not path.is_file():
        raise WorkloadError(f"{text} is no trace: name {FORMS}")
    return Recorded(path=path)


def _generated(rates: str, text: str, process: Callable[[str], Process]) -> Generated:
    by_tenant: dict[str, Process] = {}
    parts = rates.split(",")
    for part in parts:
        tenant, equals, rate = part.rpartition("=")
        if not equals and len(parts) == 1:
            return Generated(every=process(rate))
        if not tenant or tenant in by_tenant:
            raise WorkloadError(f"{text}: {part!r} is no TENANT=RATE of a tenant of its own")
        by_tenant[tenant.strip()] = process(rate)
    return Generated(by_tenant=by_tenant)


def _bursty(pair: str, busy_s: float, quiet_s: float, text: str) -> Bursty:
    quiet, dots, busy = pair.partition("..")
    if not dots:
        raise WorkloadError(f"{text}: {pair!r} is no pair of rates such as 2..40")
    quiet_hz = _quantity(quiet, Dimension.RATE, text, least=0.0)
    busy_hz = _rate_hz(busy, text)
    return Bursty(quiet_hz=quiet_hz, busy_hz=busy_hz, busy_s=busy_s, quiet_s=quiet_s)


def _phases_s(phases: str, text: str) -> tuple[float, float]:
    busy, _, quiet = phases.partition("/")
    return _quantity(busy, Dimension.TIME, text), _quantity(quiet, Dimension.TIME, text)


def _rate_hz(rate: str, text: str) -> float:
    return _quantity(rate, Dimension.RATE, text)


def _quantity(value: str, dimension: Dimension, text: str, least: float | None = None) -> float:
    """A quantity that is more than nothing, or `least` at least."""
    try:
        number = parse_quantity(value, dimension)
    except QuantityError as error:
        raise WorkloadError(f"{text}: {error}") from error
    if number < 0.0 or (least is None and number == 0.0):
        raise WorkloadError(f"{text}: {value} is too little: write more than 0")
    return number
