"""`delen bench`: load on an appliance in MLPerf's four scenarios."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from appliance import manifest
from appliance.cli.bench_table import print_measured
from appliance.cli.interruption import signals_do
from appliance.connection import BrokerAddress
from appliance.errors import DelenError, LoadError
from appliance.load import loadgen
from appliance.load.benchmark import Benchmark, Measured, Plan
from appliance.load.generator import Load, LoadGenerator
from appliance.load.own import own_appliance
from appliance.load.picture import draw
from appliance.load.report import summary
from appliance.load.samples import Sample, mixed, read_frames
from appliance.load.scenarios import Scenario
from appliance.load.tenants import Tenant, in_force
from appliance.policy import Policy, parse_policy
from appliance.quantities import Dimension, QuantityError, parse_quantity
from appliance.session import Session
from appliance.settings import Settings, read_settings
from appliance.topics import tenant_fault

OWN_TENANT = "bench"
DEFAULT_BOUND_S = 0.1
MEASURED_S, QUICK_S = 60.0, 2.0
"""How long a run takes by default."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tenant that is asked for, and the policy that is brought for it."""

    name: str
    policy: Policy | None = None
    document: bytes = b""


def register(app: typer.Typer) -> None:
    app.command()(bench)


def bench(
    engine: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="an engine folder: starts a broker and an appliance for it; else the load goes to"
            " the running appliance that the settings name",
        ),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=POLICY]",
            help="a tenant, with a policy file to push for it; again for more, which are mixed."
            " By default all that are there",
        ),
    ] = None,
    scenario: Annotated[
        list[Scenario] | None, typer.Option(help="again for more; all four by default")
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="frames as LABEL/FRAME; by default those of the tenant's engine",
        ),
    ] = None,
    bound: Annotated[
        str | None,
        typer.Option(
            help="latency that the server scenario keeps, from the scheduled time to the reply;"
            " by default each policy's response_time, or 100ms where that is not known"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="the server's requests a second, instead of a search"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="the length of a run; 60, or 2 with --quick")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="fewer queries than MLPerf believes, to try it")
    ] = False,
    outstanding: Annotated[
        int, typer.Option(min=1, help="offline: how many samples are on their way at a time")
    ] = 16,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for a reply")] = 10.0,
    host: Annotated[str | None, typer.Option(help="the broker; DELEN_MQTT_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="its port; DELEN_MQTT_PORT")] = None,
    username: Annotated[str | None, typer.Option(help="DELEN_MQTT_USERNAME")] = None,
    password_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="DELEN_MQTT_PASSWORD_FILE")
    ] = None,
    log_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="keep LoadGen's own logs, a folder for each run"),
    ] = None,
    png: Annotated[Path | None, typer.Option(dir_okay=False, help="draw a picture")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure an appliance under load in MLPerf's scenarios, with MLPerf's own LoadGen.

    Single-stream, multi-stream, server and offline; several tenants mixed. Latency counts from the
    time a request was scheduled for to its reply here. Exit code 1 where something cannot be
    measured; a result that MLPerf would not believe is marked so.
    """
    loadgen_version = loadgen.version()
    _require_matplotlib(png)
    bound_s = None if bound is None else _seconds(bound)
    settings = _settings(
        mqtt_host=host, mqtt_port=port, mqtt_username=username, mqtt_password_file=password_file
    )
    wanted = [_wanted(text) for text in tenant or []]
    if engine is not None and not wanted:
        wanted = [_own_tenant(manifest.load(engine).name)]
    policies = {one.name: one.document for one in wanted if one.policy is not None}
    with (
        signals_do(signal.default_int_handler),
        _folder(log_dir) as logs,
        _broker(settings, engine) as broker,
        Session(broker, prefix=settings.topic_prefix) as client,
        in_force(client, [one.name for one in wanted], policies) as tenants,
    ):
        load = Load(
            broker=broker,
            prefix=settings.topic_prefix,
            samples=_samples(tenants, frames, engine, settings),
            outstanding=outstanding,
            timeout_s=timeout,
            logs=logs,
        )
        plan = Plan(
            scenarios=tuple(scenario or Scenario),
            seconds=seconds or (QUICK_S if quick else MEASURED_S),
            quick=quick,
            bounds_s={one.name: _bound_s(one.name, wanted, bound_s) for one in tenants},
            rate_hz=rate,
        )
        measured = _measure(plan, load)
    if png is not None:
        draw(measured, plan.bounds_s, png)
    if as_json:
        print(json.dumps(summary(measured, plan.bounds_s, loadgen_version)))
    else:
        print_measured(measured, plan.bounds_s)


def _settings(**given: object) -> Settings:
    """The settings, with what was given on the command line before them."""
    return read_settings(**{name: value for name, value in given.items() if value is not None})


def _measure(plan: Plan, load: Load) -> list[Measured]:
    """Runs the plan, and says on standard error how far it is."""
    console = Console(stderr=True, highlight=False)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("warming up")
        with LoadGenerator(load) as generator:

            def tell(sentence: str) -> None:
                progress.reset(task, description=sentence)
                if not console.is_terminal:
                    console.print(sentence)

            return list(Benchmark(plan, generator, tell=tell).measure())


@contextmanager
def _folder(log_dir: Path | None) -> Iterator[Path]:
    if log_dir is not None:
        yield log_dir
        return
    with TemporaryDirectory(prefix="delen-loadgen-") as name:
        yield Path(name)


@contextmanager
def _broker(settings: Settings, engine: Path | None) -> Iterator[BrokerAddress]:
    """The broker that the settings name, or one with an appliance of its own for an engine."""
    if engine is None:
        yield BrokerAddress.of(settings)
        return
    with own_appliance(
        engine.resolve().parent, prefix=settings.topic_prefix, threads=settings.threads
    ) as (broker, _):
        yield broker


def _wanted(text: str) -> Wanted:
    name, equals, file = text.partition("=")
    fault = tenant_fault(name)
    if fault is not None:
        raise typer.BadParameter(f"{name!r} cannot be a tenant: {fault}")
    if not equals:
        return Wanted(name)
    try:
        document = Path(file).read_bytes()
    except OSError as error:
        raise LoadError(f"the policy {file} cannot be read: {error.strerror}") from error
    return Wanted(name, parse_policy(document, tenant=name), document)


def _own_tenant(engine: str) -> Wanted:
    document = json.dumps({"tenant": OWN_TENANT, "version": 1, "engine": engine}).encode()
    return Wanted(OWN_TENANT, parse_policy(document), document)


def _seconds(text: str) -> float:
    try:
        return parse_quantity(text, Dimension.TIME)
    except QuantityError as error:
        raise typer.BadParameter(f"--bound: {error}") from error


def _bound_s(tenant: str, wanted: Sequence[Wanted], given_s: float | None) -> float:
    """What was asked for, else what the policy that was brought says, else the default."""
    if given_s is not None:
        return given_s
    policies = {one.name: one.policy for one in wanted}
    policy = policies.get(tenant)
    own_s = None if policy is None else policy.bounds.response_time
    return DEFAULT_BOUND_S if own_s is None else own_s


def _samples(
    tenants: Sequence[Tenant], frames: Path | None, engine: Path | None, settings: Settings
) -> tuple[Sample, ...]:
    engines = settings.engines if engine is None else engine.resolve().parent
    folders: Mapping[str, Path] = manifest.find(engines)
    found = {}
    for tenant in tenants:
        folder = frames
        if folder is None:
            if tenant.engine not in folders:
                raise LoadError(
                    f"the engine {tenant.engine} of {tenant.name} is not in {engines}, so that"
                    " there are no frames for it here: name --frames"
                )
            folder = folders[tenant.engine] / "frames"
        found[tenant.name] = read_frames(folder)
    return mixed(found)


def _require_matplotlib(png: Path | None) -> None:
    if png is not None and find_spec("matplotlib") is None:
        raise DelenError("--png needs matplotlib: install it with `pip install 'delen[bench]'`")
