"""What works on this machine and what does not, with what to do about it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib import metadata
from pathlib import Path

import onnxruntime as ort

from appliance import manifest
from appliance.backends import choice
from appliance.connection import BrokerAddress
from appliance.engine import Engine
from appliance.errors import (
    BrokerError,
    DatabaseDamaged,
    DelenError,
    EngineError,
    Faulty,
    InvalidDocument,
    MeterError,
)
from appliance.executor import Executor
from appliance.plan import compile_plan
from appliance.plan_folder import with_plans
from appliance.policy import parse_policy
from appliance.power.meters import METERS, MeterOptions, Search
from appliance.reader import Reader
from appliance.session import Session
from appliance.settings import Settings, read_settings, unknown_variables

OLDEST_PYTHON = (3, 10)
BROKER_TIMEOUT_S = 3.0
WARM_UP_RUNS = 16
SBIN = ("/usr/sbin", "/usr/local/sbin")
"""Where Debian keeps the broker: not on an ordinary user's path."""


class State(str, Enum):
    """How a thing stands."""

    OK = "ok"
    MISSING = "missing"
    """Not there, and nothing is broken by that."""
    WRONG = "wrong"
    """It does not work, or it is not there and serving needs it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` is empty where there is nothing to do."""

    subject: str
    state: State
    detail: str
    advice: str = ""
    stops_serving: bool = False
    """Whether the appliance cannot serve as it should before this is put right."""


def _ok(subject: str, detail: str) -> Finding:
    return Finding(subject=subject, state=State.OK, detail=detail)


def _missing(subject: str, detail: str, advice: str = "") -> Finding:
    return Finding(subject=subject, state=State.MISSING, detail=detail, advice=advice)


def _wrong(subject: str, detail: str, advice: str = "") -> Finding:
    return Finding(
        subject=subject, state=State.WRONG, detail=detail, advice=advice, stops_serving=True
    )


def diagnose() -> Iterator[Finding]:
    """Looks at everything, one finding after the other; whatever is wrong becomes a finding."""
    for check in (python, onnx_runtime, tensorrt, pycuda, jtop, torch, mosquitto):
        yield from _safely(check.__name__, check)
    try:
        settings = read_settings()
    except DelenError as error:
        sentences = "; ".join(str(error).splitlines())
        yield _wrong("settings", sentences, "correct them: what they name was not looked at")
        return
    yield from _safely("settings", variables)
    for check_named in (meters, broker, engines, conditions, database):
        yield from _safely(check_named.__name__, partial(check_named, settings))


def _safely(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - it is reported, as every finding is
        sentence = f"looking at it failed: {type(error).__name__}: {error}"
        yield _wrong(subject, sentence, "report it as a bug, with this line")


# What is installed.


def python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info[:2] >= OLDEST_PYTHON:
        yield _ok("python", version)
    else:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        advice = f"install Python {oldest} or newer, and make the virtual environment anew"
        yield _wrong("python", f"{version} is too old", advice)


def onnx_runtime() -> Iterator[Finding]:
    providers = ", ".join(ort.get_available_providers())
    yield _ok("onnxruntime", f"{ort.__version__}: {providers}")


def tensorrt() -> Iterator[Finding]:
    yield _library("tensorrt", use="without it stages run on ONNX Runtime")


def pycuda() -> Iterator[Finding]:
    yield _library("pycuda", module="pycuda.driver", use="the TensorRT backend needs it")


def jtop() -> Iterator[Finding]:
    use = "one of the meters needs it"
    yield _library("jtop", distribution="jetson-stats", use=use)


def _library(
    name: str, *, use: str, module: str | None = None, distribution: str | None = None
) -> Finding:
    try:
        importlib.import_module(module or name)
        version = metadata.version(distribution or name)
    except Exception as error:  # noqa: BLE001 - what is half installed may raise anything
        return _missing(name, f"{error}: {use}")
    return _ok(name, f"{version}: {use}")


def torch() -> Iterator[Finding]:
    # Not imported, which takes seconds: only training and splitting would notice.
    try:
        yield _ok("torch", metadata.version("torch"))
    except metadata.PackageNotFoundError:
        advice = "to train and split networks: pip install 'delen[train]'"
        yield _missing("torch", "not installed; serving does without", advice)


def mosquitto() -> Iterator[Finding]:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])
    executable = shutil.which("mosquitto", path=path)
    if executable is None:
        detail = "not installed; the demo and the tests need it, serving a broker anywhere"
        yield _missing("mosquitto", detail, "sudo apt-get install mosquitto mosquitto-clients")
        return
    # Its version is the first line of its help, which ends with an exit code of its own.
    shown = subprocess.run(  # noqa: S603 - what the shell would run as `mosquitto`
        [executable, "-h"], check=False, capture_output=True, text=True
    )
    yield _ok("mosquitto", shown.stdout.partition("\n")[0].removeprefix("mosquitto version "))


# What the settings name.


def variables() -> Iterator[Finding]:
    """Variables of the environment that look like settings and are none."""
    sentences = unknown_variables()
    for sentence in sentences:
        advice = "correct its name, or unset it"
        yield Finding(subject="settings", state=State.WRONG, detail=sentence, advice=advice)
    if not sentences:
        yield _ok("settings", "can be read, each of them")


def meters(settings: Settings, sysfs: Path = Path("/sys")) -> Iterator[Finding]:
    """Each meter, asked for one reading."""
    options = MeterOptions(
        interval_s=settings.meter_interval, tegrastats=settings.tegrastats, sysfs=sysfs
    )
    for name in METERS:
        yield _meter(name, options)
    yield _ok("meter modelled", "energies are those of the engines' profiles")


def _meter(name: str, options: MeterOptions) -> Finding:
    readings = Search(name=name, options=options).readings()
    try:
        reading = next(readings)
    except MeterError as error:
        return _missing(f"meter {name}", str(error).removeprefix(f"{name}: "))
    finally:
        readings.close()
    total = " + ".join(reading.total_of)
    return _ok(f"meter {name}", f"{reading.total_w:.2f} W ({total})")


def broker(settings: Settings) -> Iterator[Finding]:
    """The broker: whether it answers, and lets us in."""
    address = BrokerAddress.of(settings)
    try:
        # Asked first, since a client would go on trying for longer.
        socket.create_connection((address.host, address.port), BROKER_TIMEOUT_S).close()
        started_s = time.monotonic()
        with Session(address, prefix=settings.topic_prefix):
            connected_ms = (time.monotonic() - started_s) * 1e3
    except OSError as error:
        advice = (
            "start one (sudo apt-get install mosquitto), or set DELEN_MQTT_HOST and DELEN_MQTT_PORT"
        )
        yield _wrong("broker", f"nothing answers at {address}: {error.strerror or error}", advice)
    except BrokerError as error:
        advice = "check DELEN_MQTT_USERNAME, DELEN_MQTT_PASSWORD and DELEN_MQTT_TLS_CA"
        yield _wrong("broker", str(error), advice)
    else:
        user = "anonymous" if address.username is None else address.username
        yield _ok("broker", f"{address} lets {user} in, after {connected_ms:.0f} ms")


def engines(settings: Settings) -> Iterator[Finding]:
    """Each engine: its manifest read, its stages opened and run on the backend that would serve."""
    folders = manifest.find(settings.engines)
    if not folders:
        advice = "set DELEN_ENGINES to a folder of engine folders"
        yield _wrong("engines", f"there is no engine in {settings.engines.absolute()}", advice)
    for name, folder in folders.items():
        try:
            engine = with_plans(manifest.load(folder), settings.plans)
            yield from _engine(name, engine, settings)
        except EngineError as error:
            advice = f"correct it, or move {folder} elsewhere"
            yield _wrong(f"engine {name}", str(error), advice)


def _engine(name: str, engine: Engine, settings: Settings) -> Iterator[Finding]:
    """How an engine runs, with the times in seconds that an appliance would begin with."""
    executor = Executor(clock=time.perf_counter)
    with choice.opened(engine, settings.backend, settings.threads) as backend:
        executor.add(engine, backend)
        executor.warm_up(engine, runs=WARM_UP_RUNS)
        times_s = tuple(executor.times(engine).careful_s)
    stages = " + ".join(f"{time_s * 1e3:.1f}" for time_s in times_s)
    yield _ok(f"engine {name}", f"{len(times_s)} stages run on {backend.name}, in {stages} ms")
    has_plans = any(stage.tensorrt for stage in engine.stages)
    if has_plans and backend.name != "tensorrt" and settings.backend == choice.AUTO:
        yield _missing(f"plans of {name}", choice.why_not_tensorrt(engine) or "they do not open")


def conditions(settings: Settings) -> Iterator[Finding]:
    """Each policy in the conditions folder: read, and compiled for its engine."""
    paths = sorted(settings.conditions.glob("*.yaml"))
    if not paths:
        detail = f"there is no policy in {settings.conditions.absolute()}"
        yield _missing("conditions", detail, "to serve a tenant: `delen policy push FILE`")
    for path in paths:
        problems = _policy_problems(path, settings.engines)
        if problems:
            advice = f"correct it, and ask `delen policy check {path}`"
            yield _wrong(f"conditions {path.name}", "; ".join(problems), advice)
        else:
            yield _ok(f"conditions {path.name}", "is a policy and fits its engine")


def _policy_problems(path: Path, engines_folder: Path) -> list[str]:
    try:
        policy = parse_policy(path.read_bytes())
        folder = manifest.find(engines_folder).get(policy.engine)
        if folder is None:
            return [f"there is no engine {policy.engine} in {engines_folder}"]
        compile_plan(policy, manifest.load(folder))
    except InvalidDocument as error:
        return [f"{p.line}:{p.column}: {p.message}" for p in error.problems]
    except Faulty as error:
        return [fault.message for fault in error.faults]
    except (OSError, EngineError) as error:
        return [str(error)]
    return []


def database(settings: Settings) -> Iterator[Finding]:
    """The database: opened where there is one; nothing is made where there is none."""
    path = settings.database.absolute()
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        advice = f"let this user write to {path.parent}, or set DELEN_DATABASE to another file"
        yield _wrong("database", f"{path} cannot be written", advice)
    elif not path.exists():
        yield _ok("database", f"{path} will be made at the first start")
    else:
        yield _opened(path)


def _opened(path: Path) -> Finding:
    try:
        with Reader(path) as reader:
            tenants = len(reader.policies())
    except DatabaseDamaged as error:
        advice = "start the appliance, which sets it aside and goes on with the newest backup"
        return _wrong("database", str(error), advice)
    except DelenError as error:
        return _wrong("database", str(error))
    size_mb = path.stat().st_size / 1e6
    return _ok("database", f"{path}: {size_mb:.1f} MB, {tenants} tenants with a policy")
