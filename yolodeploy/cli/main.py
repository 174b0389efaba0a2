"""The command line: parse, call, print. One exit code per kind of error (docs/errors.md)."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from yolodeploy import __version__
from yolodeploy.cli.commands import COMMANDS
from yolodeploy.cli.common import common_options
from yolodeploy.errors import ChecksFailed, Interrupted, RecipeError, YolodeployError
from yolodeploy.execution import Run, report_bug, watch
from yolodeploy.system import Console, wait_passively


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code.

    Without `arguments` it is that of the command line, and tools run in a process of their own; a caller that gives arguments
    has them run in its own process.
    """
    _prepare_process()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options, console = argparse.Namespace(json="--json" in words), Console()
    try:
        options = parser().parse_args(words)
        options.described = _described_run(words, options)
        options.apart = arguments is None
        console = Console(options.verbose - options.quiet)
        watch(options.described)
        code: int = options.run(options, console)
        console.finish()
        return code
    except KeyboardInterrupt:
        stopped = "stopped. Finished steps are kept; the next run continues from there."
        return _fail(Interrupted(stopped), options, console)
    except YolodeployError as error:
        return _fail(error, options, console)
    except Exception as error:  # noqa: BLE001 - the last resort: a bug becomes a log and one line
        return _fail(report_bug(error, _described_run(words, options)), options, console)


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = _Parser(
        prog="yolodeploy",
        description="Ship YOLO models to devices from a recipe: compressed, measured, reproducible.",
    )
    top.add_argument("--version", action="version", version=f"yolodeploy {__version__}")
    subparsers = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    common: Any = common_options()
    for path in COMMANDS:
        module = importlib.import_module(f"yolodeploy.cli.commands.{path}")
        name = path.rpartition(".")[2]
        told = f"{module.HELP[0].upper()}{module.HELP[1:]}."
        command = subparsers.add_parser(name, parents=[common], help=module.HELP, description=told)
        if hasattr(module, "add_options"):
            module.add_options(command)
        command.set_defaults(run=module.run, top=top)
    return top


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        Console().info(self.format_usage().rstrip("\n"))
        raise RecipeError(f"{message}. See `{self.prog} --help`.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        Console().finish()  # flush the help text
        super().exit(status, message)


def _described_run(words: Sequence[str], options: argparse.Namespace) -> Run:
    recipe = getattr(options, "recipe", None)
    recipes = [recipe] if recipe else getattr(options, "recipes", [])
    cache = str(options.cache) if getattr(options, "cache", None) else None
    return Run(["yolodeploy", *words], [str(path) for path in recipes], cache, options.json)


def _prepare_process() -> None:
    wait_passively()
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that a terminal lacks stops no build
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():
        # `kill` stops a build like Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _fail(error: YolodeployError, options: argparse.Namespace, console: Console) -> int:
    """Print an error and return its exit code, even if nobody can read it."""
    described = {"kind": error.kind, "exit_code": error.exit_code, "message": str(error)}
    value: dict[str, Any] = {"error": described}
    if isinstance(error, ChecksFailed):
        value["report"] = error.report
    console.failure(str(error), value if options.json else None)
    if error.__cause__ is not None:
        console.detail("".join(traceback.format_exception(error.__cause__)))
    return error.exit_code
