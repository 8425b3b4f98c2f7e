"""`delen profile`: measures an engine where it will serve."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from appliance import manifest
from appliance.backends import choice
from appliance.backends.protocol import Backend
from appliance.cli.backend_option import BackendOption
from appliance.cli.modelling import DatasetFolder, batch_sizes, progress
from appliance.cli.profile_tables import findings, policy_of, print_profile, print_suggestion
from appliance.engine import Engine
from appliance.errors import MeterError, ModellingError
from appliance.modelling.datasets import DESCRIPTIONS, Dataset, HeldOutFrames, open_dataset
from appliance.modelling.profiling.energy import MeasuredEnergy, measure_energy
from appliance.modelling.profiling.graph import counted
from appliance.modelling.profiling.picture import PICTURE, draw_profile
from appliance.modelling.profiling.profile import Profile, Suggestion, suggest_thresholds
from appliance.modelling.profiling.profile import profile as measure
from appliance.modelling.profiling.thresholds import parse_goal
from appliance.power.meters import AUTO, METERS, MODELLED, MeterOptions
from appliance.settings import read_settings

# What the meter's thread has to tell is told once, with the profile.
logging.getLogger("appliance.power").addHandler(logging.NullHandler())


def register(app: typer.Typer) -> None:
    app.command()(profile)


def profile(
    engine: Annotated[Path, typer.Argument(help="an engine folder")],
    dataset: Annotated[
        str | None,
        typer.Option(
            help=f"{' | '.join(DESCRIPTIONS)}; by default the frames in the engine's folder"
        ),
    ] = None,
    dataset_dir: DatasetFolder = None,
    batches: Annotated[str, typer.Option(help="batch sizes to time")] = "1,2,4,8",
    runs: Annotated[int, typer.Option(min=2, help="how often each batch size is timed")] = 100,
    threads: Annotated[
        int | None, typer.Option(min=1, help="threads of one stage; as the appliance by default")
    ] = None,
    backend_name: BackendOption = "auto",
    meter: Annotated[
        str | None,
        typer.Option(
            help=f"what measures energy: {AUTO}, {', '.join(METERS)}, or {MODELLED} for none;"
            " DELEN_METER's else"
        ),
    ] = None,
    suggest: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="propose a confidence per exit with the lowest mean latency under a goal, such as"
            " 'accuracy >= final - 1%' or 'accuracy >= 97%'",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure an engine on this machine, and write what was found into its manifest.

    Accuracy, temperatures, the table of thresholds and suggestions come from validation frames,
    where the dataset has some; calibration errors, and what a suggestion comes to, from test
    frames. Latency is of each stage alone; energy is measured where a meter works, else modelled
    from FLOPs. ENGINE/profile.png shows accuracy against latency.
    """
    goal = None if suggest is None else parse_goal(suggest)
    loaded = _counted(manifest.load(engine))
    chosen = _dataset(engine, dataset, dataset_dir)
    with choice.opened(loaded, backend_name, threads) as backend, _bars() as tell:
        energy = _energy(loaded, backend, meter, report=partial(tell, "energy"))
        found = measure(
            loaded,
            backend,
            chosen,
            batch_sizes=batch_sizes(batches),
            runs=runs,
            report=tell,
            energy=energy,
        )
    manifest.save(found.engine, engine)
    suggestion = None if goal is None else suggest_thresholds(found, suggest or "", goal)
    pictured = _pictured(found, suggestion, engine)
    if as_json:
        print(json.dumps(findings(found, suggestion)))
        return
    console = Console(highlight=False)
    print_profile(found, console)
    if suggestion is not None:
        print_suggestion(suggestion, found, console)
        print(policy_of(suggestion, found.engine))
    if pictured:
        console.print(f"the picture: {engine / PICTURE}")


@contextmanager
def _bars() -> Iterator[Callable[[str, float], None]]:
    """A bar for each thing that is measured; told which of them, and how much of it is done."""
    with progress() as shown:
        bars = {
            name: shown.add_task(name) for name in ("energy", "latency", "accuracy", "calibration")
        }

        def tell(name: str, done: float) -> None:
            shown.update(bars[name], completed=100 * done)

        yield tell


def _counted(engine: Engine) -> Engine:
    """With FLOPs and parameters; as it is, and the reason on standard error, where none counts."""
    try:
        return counted(engine)
    except ModellingError as error:
        _remark(str(error))
        return engine


def _energy(
    engine: Engine, backend: Backend, meter: str | None, *, report: Callable[[float], None]
) -> MeasuredEnergy | None:
    """What a meter sees, or None and the reason on standard error where none works."""
    settings = read_settings() if meter is None else read_settings(meter=meter)
    if settings.meter == MODELLED:
        report(1.0)
        return None
    try:
        return measure_energy(
            backend,
            engine,
            meter=settings.meter,
            options=MeterOptions(
                interval_s=settings.meter_interval, tegrastats=settings.tegrastats
            ),
            report=report,
        )
    except MeterError as error:
        _remark(f"energy is not measured here: {error}")
        return None
    finally:
        report(1.0)


def _remark(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, markup=False)


def _dataset(engine: Path, name: str | None, folder: Path | None) -> Dataset:
    if name is None and folder is None:
        return HeldOutFrames(engine / "frames")
    return open_dataset(name, folder)


def _pictured(found: Profile, suggestion: Suggestion | None, engine: Path) -> bool:
    try:
        draw_profile(found, suggestion, engine)
    except ModuleNotFoundError:
        _remark("no picture without matplotlib: install it with pip install 'delen[profile]'")
        return False
    return True
