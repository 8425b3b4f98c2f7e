"""The `delen` command: gathers the verbs, and turns errors into a sentence and an exit code."""

from __future__ import annotations

import signal
import sys
from importlib import import_module

import typer

from appliance.errors import DelenError, InvalidDocument

_VERBS = (
    "demo", "serve", "run", "send", "policy", "log", "power", "train", "split", "profile",
    "compile", "import-delen", "simulate", "bench", "tenant", "backup", "health", "doctor",
    "contracts", "dashboard", "top",
)  # fmt: skip
_MODULE_OF = {verb: verb.replace("-", "_") for verb in _VERBS} | {"restore": "backup"}


def command_line(verb: str | None = None) -> typer.Typer:
    """The command with one verb, of which alone the modules are loaded; with all for any other.

    What serves for months holds nothing of what benchmarks and draws.
    """
    app = typer.Typer(
        name="delen",
        help="Serve many tenants from one small accelerator, with answers as early as they allow.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    # With it a verb stays one where it is the only one.
    app.callback()(lambda: None)
    modules = [_MODULE_OF[verb]] if verb in _MODULE_OF else dict.fromkeys(_MODULE_OF.values())
    for module in modules:
        import_module(f"appliance.cli.{module}").register(app)
    return app


def main() -> None:
    """Runs a command: exit code 0 done, 1 it failed and says why, 2 wrong usage.

    One that is told to end removes what it has half written.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        command_line(sys.argv[1] if len(sys.argv) > 1 else None)()
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
    from rich.console import Console  # noqa: PLC0415 - a megabyte that few need

    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, style="red", markup=False)
