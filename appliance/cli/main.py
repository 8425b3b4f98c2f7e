"""The `delen` command: gathers the verbs, and turns errors into a sentence and an exit code."""

from __future__ import annotations

import signal
import sys

import typer
from rich.console import Console

from appliance.cli import (
    backup,
    bench,
    contracts,
    dashboard,
    demo,
    doctor,
    health,
    import_delen,
    log,
    policy,
    power,
    profile,
    run,
    send,
    serve,
    simulate,
    split,
    tenant,
    top,
    train,
)
from appliance.cli import compile as compile_command
from appliance.errors import DelenError, InvalidDocument

app = typer.Typer(
    name="delen",
    help="Serve many tenants from one small accelerator, with answers as early as they allow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_VERBS = (
    demo, serve, run, send, policy, log, power, train, split, profile, compile_command,
    import_delen, simulate, bench, tenant, backup, health, doctor, contracts, dashboard, top,
)  # fmt: skip
for verbs in _VERBS:
    verbs.register(app)


def main() -> None:
    """Runs a command: exit code 0 done, 1 it failed and says why, 2 wrong usage.

    One that is told to end removes what it has half written.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except InvalidDocument as error:
        for problem in error.problems:
            _complain(f"{problem.line}:{problem.column}: {problem.message}")
        sys.exit(1)
    except DelenError as error:
        _complain(str(error))
        sys.exit(1)
    except MemoryError:
        _complain("there is too little memory for this command: free some, and try again")
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing more can be written, not even at exit.
        sys.stderr.close()
        sys.exit(0)


def _complain(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, style="red", markup=False)
