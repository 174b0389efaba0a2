"""What several commands share: options, the store, printing results, writing files."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system import Console, one_line, shown_json

if TYPE_CHECKING:
    from yolodeploy.api import Proof, Result, Session
    from yolodeploy.store import Store


def common_options() -> argparse.ArgumentParser:
    """The options that every command has."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    quiet = "no progress: results and errors only"
    common.add_argument("-q", "--quiet", action="count", default=0, help=quiet)
    common.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say more, such as why a step runs, and show traces",
    )
    where = "the store (default: YOLODEPLOY_CACHE, or the user's cache folder)"
    common.add_argument("--cache", type=_folder, metavar="DIR", help=where)
    return common


def _folder(text: str) -> Path:
    if not text:  # an unset variable in a script, which would mean the current folder
        raise argparse.ArgumentTypeError("is empty. Name a folder, or leave the option out.")
    return Path(text)


def add_recipe(command: argparse.ArgumentParser, what: str = "the recipe, a YAML file") -> None:
    """One recipe, what it may read outside its project, and whether its weights may be executed."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", help=what)
    _add_access(command)


def add_recipes(command: argparse.ArgumentParser) -> None:
    """Several recipes, with the same options."""
    command.add_argument(
        "recipes", nargs="+", type=Path, metavar="RECIPE", help="recipes, YAML files"
    )
    _add_access(command)


def _add_access(command: argparse.ArgumentParser) -> None:
    what = "a file or folder outside the recipe's project that it may read (repeatable)"
    command.add_argument(
        "--allow", type=Path, action="append", default=[], metavar="PATH", help=what
    )
    trust = "let the recipe's loader execute code in the weights file, with all your rights"
    command.add_argument("--trust-weights", action="store_true", dest="trusted", help=trust)


def add_building(command: argparse.ArgumentParser, more: str = "") -> None:
    """The recipes and options of the commands that run steps; `more` is what else `--on` does."""
    add_recipes(command)
    add_cluster(command, more)
    refuse = "refuse whatever differs from the lock file"
    command.add_argument("--locked", action="store_true", help=refuse)
    command.add_argument(
        "--store",
        metavar="URL",
        help="a store shared by a team: s3://, gs://, http(s):// or file:// (default: YOLODEPLOY_STORE)",
    )


def add_host(command: argparse.ArgumentParser) -> None:
    """`--on HOST`: where artifacts are measured."""
    where = "measure on this host of hosts.toml (see `yolodeploy hosts`), not on this machine"
    command.add_argument("--on", metavar="HOST", help=where)


def session_of(options: argparse.Namespace, console: Console) -> Session:
    """What the command's options say that calls of the Python API share.

    For a caller that gave `main` its arguments, tools run in this process.
    """
    from yolodeploy.api import Session

    return Session(
        cache=options.cache,
        store=getattr(options, "store", None),
        allow=getattr(options, "allow", ()),
        trusted=getattr(options, "trusted", False),
        in_process=not options.apart,
        printer=console,
        command=options.described,
    )


def open_store(options: argparse.Namespace, console: Console) -> Store:
    """The store that the command line or the environment names."""
    from yolodeploy.store import Store, default_root

    return Store(options.cache or default_root(), console.warn)


def add_cluster(command: argparse.ArgumentParser, more: str = "") -> None:
    """Where jobs run; `more` is what else `--on` does."""
    where = "run beside each other in Ray: ray (starts it on this machine), auto (one that runs here), host:port or ray://host:port"
    command.add_argument("--on", metavar="HOST" if more else "CLUSTER", help=where + more)


def add_mlflow(command: argparse.ArgumentParser) -> None:
    """`--mlflow URI`: where figures are logged."""
    where = (
        "log the figures to this MLflow server; `env`: to the one that MLFLOW_TRACKING_URI names"
    )
    command.add_argument("--mlflow", metavar="URI", help=where)


def log_results(
    options: argparse.Namespace, console: Console, results: Iterable[Result | Proof]
) -> None:
    """Log what was measured. A server that is down costs a warning, not the deployment, which is done."""
    if options.mlflow is None:
        return
    from yolodeploy.api import log_mlflow

    uri = None if options.mlflow == "env" else options.mlflow
    for result in results:
        if result.measures:
            try:
                console.info(str(log_mlflow(result, uri)))
            except EnvironmentProblem as problem:
                console.warn(str(problem))


def require_logger(options: argparse.Namespace) -> None:
    """Refuse --mlflow where its client is missing, before anything runs."""
    if options.mlflow is not None:
        from yolodeploy.api import require_mlflow

        require_mlflow()


def print_result(console: Console, options: argparse.Namespace, value: object, text: str) -> None:
    """Print `value` as JSON with --json, else `text`."""
    console.result(shown_json(value) if options.json else text)


def require_own(folder: Path, default: Path, option: str) -> None:
    """Refuse a default folder that is a link; naming where it leads allows it."""
    if folder == default and folder.is_symlink():
        real = os.path.realpath(folder)
        raise EnvironmentProblem(
            f"{folder} is a link to {one_line(real)}. To write there, add: "
            f"{option} {one_line(shlex.quote(real))}"
        )


def write_new(file: Path, text: str) -> None:
    """Write a file and the folders above it; a link in its place is replaced, not followed.

    Raises EnvironmentProblem with the reason if that fails.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(f"{file.parent}: cannot be created: {error.strerror}") from None
    if os.path.islink(file):  # noqa: PTH114 - Path's raises OSError for a name that is too long
        file.unlink()
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(f"{file}: cannot be written: {error.strerror}") from None
