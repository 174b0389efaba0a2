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

from yolodeploy import __version__, buglog, lastwords
from yolodeploy.buglog import Run
from yolodeploy.console import Console
from yolodeploy.errors import ChecksFailed, Interrupted, RecipeError, YolodeployError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code."""
    _prepare_process()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options, console = argparse.Namespace(json="--json" in words), Console()
    try:
        options = parser().parse_args(words)
        console = Console(options.verbose - options.quiet)
        lastwords.of(_run(words, options))
        code: int = options.run(options, console)
        console.finish()
        return code
    except KeyboardInterrupt:
        return _fail(
            Interrupted("stopped; finished steps are kept, the next run goes on from there"),
            options,
            console,
        )
    except YolodeployError as fault:
        return _fail(fault, options, console)
    except Exception as fault:  # noqa: BLE001 - the last resort: a bug becomes a log and one line
        return _fail(buglog.report(fault, _run(words, options)), options, console)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        Console().info(self.format_usage().rstrip("\n"))
        raise RecipeError(f"{message}. See `{self.prog} --help`.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        Console().finish()  # of the help
        super().exit(status, message)


def _run(words: Sequence[str], options: argparse.Namespace) -> Run:
    recipe = getattr(options, "recipe", None)
    recipes = [recipe] if recipe else getattr(options, "recipes", [])
    cache = str(options.cache) if getattr(options, "cache", None) else None
    return Run(["yolodeploy", *words], [str(path) for path in recipes], cache, options.json)


def _prepare_process() -> None:
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter stops no build
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():  # `kill` ends a build as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _fail(fault: YolodeployError, options: argparse.Namespace, console: Console) -> int:
    """Say what went wrong; the exit code is that of the fault, even if nobody can be told."""
    value: dict[str, Any] = {
        "error": {"kind": fault.kind, "exit_code": fault.exit_code, "message": str(fault)}
    }
    if isinstance(fault, ChecksFailed):
        value["report"] = fault.report
    console.failure(str(fault), value if options.json else None)
    if fault.__cause__ is not None:
        console.detail("".join(traceback.format_exception(fault.__cause__)))
    return fault.exit_code


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = _Parser(
        prog="yolodeploy",
        description="Ship YOLO models to devices from a recipe: compressed, measured, reproducible.",
    )
    top.add_argument("--version", action="version", version=f"yolodeploy {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = _common()
    _add_recipe_commands(commands, common)
    _add_information_commands(commands, common)
    return top


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument(
        "-q", "--quiet", action="count", default=0, help="no progress: results and faults only"
    )
    common.add_argument("-v", "--verbose", action="count", default=0, help="say more, show traces")
    common.add_argument(
        "--cache",
        type=_folder,
        metavar="DIR",
        help="the store (default: YOLODEPLOY_CACHE, or the user's cache folder)",
    )
    return common


def _folder(text: str) -> Path:
    if not text:  # an unset variable of a script; it would be the current folder
        raise argparse.ArgumentTypeError("is empty. Name a folder, or leave the option out.")
    return Path(text)


def _trusting() -> argparse.ArgumentParser:
    trusting = argparse.ArgumentParser(add_help=False)
    trusting.add_argument(
        "--allow",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder outside the recipe's project that it may read (repeatable)",
    )
    return trusting


def _add_recipe_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    parents = [common, _trusting()]
    check = commands.add_parser("check", parents=parents, help="say whether recipes can be built")
    check.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    check.set_defaults(run=_command("check"))
    plan = commands.add_parser(
        "plan", parents=parents, help="show the steps, their ids, and what is cached"
    )
    plan.add_argument("recipe", type=Path, metavar="RECIPE")
    plan.set_defaults(run=_command("plan"))
    _add_building(commands, parents)
    _add_sensitivity(commands, parents)


def _add_building(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    for name, text in (
        ("build", "make the artifact, without measuring it"),
        ("deploy", "make, measure and check the artifact, and write its bundle"),
    ):
        command = commands.add_parser(name, parents=parents, help=text)
        command.add_argument("recipe", type=Path, metavar="RECIPE")
        command.add_argument(
            "--locked", action="store_true", help="refuse whatever differs from the lock file"
        )
        command.add_argument(
            "--store",
            metavar="URL",
            help="a store that a team shares: s3://, gs://, http(s):// or file:// (default: YOLODEPLOY_STORE)",
        )
        command.set_defaults(run=_command(name))
    command.add_argument(
        "--dist",
        type=Path,
        default=Path("dist"),
        metavar="DIR",
        help="where bundles go (default: dist)",
    )
    command.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="sign the bundle with this Ed25519 private key (PEM)",
    )


def _add_sensitivity(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    sensitivity = commands.add_parser(
        "sensitivity", parents=parents, help="measure what compressing each layer alone costs"
    )
    sensitivity.add_argument("recipe", type=Path, metavar="RECIPE")
    sensitivity.add_argument(
        "--map", action="store_true", help="also the drop of mAP of every layer (takes long)"
    )
    sensitivity.add_argument(
        "--images", type=_images, default=4, metavar="N", help="images to measure on (default: 4)"
    )
    sensitivity.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("sensitivity"),
        metavar="DIR",
        help="where the table and the plot go (default: sensitivity)",
    )
    sensitivity.set_defaults(run=_command("sensitivity"))


def _images(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of images; 1 is the least")
    return int(text)


def _add_information_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    for name, module, text in (
        ("backends", "commands", "list the installed plugins, usable or not"),
        ("devices", "commands", "list the devices that a recipe can target"),
        ("doctor", "upkeep", "say what works on this machine, and how to mend what does not"),
    ):
        command = commands.add_parser(name, parents=[common], help=text)
        command.set_defaults(run=_command(name, module))
    verify = commands.add_parser(
        "verify", parents=[common], help="say whether bundles are, byte for byte, what was deployed"
    )
    verify.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="dist/NAME")
    verify.add_argument(
        "--lock", type=Path, metavar="FILE", help="the recipe's lock file, to hold it against"
    )
    verify.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the Ed25519 public key (PEM) that must have signed",
    )
    verify.set_defaults(run=_command("verify", "verify"))
    reproduce = commands.add_parser(
        "reproduce",
        parents=[common, _trusting()],
        help="build recipes again elsewhere, and compare every byte with their lock files",
    )
    reproduce.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    reproduce.add_argument(
        "--keep", type=Path, metavar="DIR", help="a new folder, kept with what was built"
    )
    reproduce.set_defaults(run=_command("reproduce", "reproduce"))
    schema = commands.add_parser(
        "schema", parents=[common], help="write the JSON Schema of recipes, for editors"
    )
    schema.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a file (default: standard output)"
    )
    schema.set_defaults(run=_command("schema"))
    cache = commands.add_parser("cache", parents=[common], help="show, verify or prune the store")
    cache.add_argument("action", nargs="?", choices=("show", "verify", "prune"), default="show")
    cache.add_argument("--all", action="store_true", help="prune: remove everything")
    cache.add_argument("--days", type=float, help="prune: remove what is older (default: 30)")
    cache.set_defaults(run=_command("cache", "upkeep"))


def _command(name: str, module: str = "commands") -> Any:
    def run(options: argparse.Namespace, console: Console) -> int:
        # importing late keeps --help free of everything else
        result: int = getattr(importlib.import_module(f"yolodeploy.{module}"), name)(
            options, console
        )
        return result

    return run


if __name__ == "__main__":
    sys.exit(main())
