"""`yolodeploy deploy`: make, measure and check artifacts, and write their bundles and locks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import (
    add_building,
    add_mlflow,
    log_results,
    print_result,
    require_logger,
    require_own,
    session_of,
)
from yolodeploy.cli.several import exit_code
from yolodeploy.errors import RecipeError
from yolodeploy.system import Console

if TYPE_CHECKING:
    from yolodeploy.api import Result

HELP = "make, measure and check artifacts, and write their bundles"
DIST = Path("dist")


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `build`, where the bundle goes, and who signs it."""
    add_building(command, "; or measure on this host of hosts.toml (see `yolodeploy hosts`)")
    command.add_argument(
        "--dist", type=Path, default=DIST, metavar="DIR", help="where bundles go (default: dist)"
    )
    command.add_argument(
        "--key", type=Path, metavar="FILE", help="the Ed25519 private key (PEM) to sign with"
    )
    command.add_argument(
        "--undecided",
        choices=("refuse", "accept"),
        default="refuse",
        help="whether to ship an artifact if noise could turn the verdict of a check over (default: refuse)",
    )
    command.add_argument(
        "--no-images",
        action="store_false",
        dest="images",
        help="leave pictures out of the bundle and its page; the golden image, which apps test with, stays",
    )
    form = "print the figures in Markdown, for a comment on a pull request, instead of the table"
    command.add_argument("--markdown", action="store_true", help=form)
    add_mlflow(command)


def run(options: argparse.Namespace, console: Console) -> int:
    """Deploy recipes; a failed check still shows the table."""
    from yolodeploy.api import deploy

    if options.markdown and options.json:
        raise RecipeError("--markdown and --json are two forms of the result: give one of them.")
    require_own(options.dist, DIST, "--dist")
    require_logger(options)
    found = deploy(
        options.recipes,
        on=options.on,
        locked=options.locked,
        dist=options.dist,
        key=options.key,
        undecided=options.undecided,
        images=options.images,
        raises=False,
        session=session_of(options, console),
    )
    log_results(options, console, found)
    if options.markdown or len(found) > 1:
        _print_rows(options, console, [each.plain() for each in found])
    else:
        _print(options, console, found[0])
    if len(found) == 1 and found[0].error:
        raise found[0].error
    return exit_code(found)


def _print_rows(options: argparse.Namespace, console: Console, rows: list[dict[str, Any]]) -> None:
    """Print a line for each recipe, as a table or in Markdown."""
    from yolodeploy.report import deployments_markdown, summary_table

    if options.markdown:
        console.result(deployments_markdown(rows))
    else:
        print_result(console, options, rows, summary_table(rows))


def _print(options: argparse.Namespace, console: Console, only: Result) -> None:
    """Print the report of the only recipe, also of one that failed its checks."""
    from yolodeploy.report import report_table

    if not only.error:
        value = {**(only.report or {}), "bundle": str(only.bundle)}
        print_result(console, options, value, str(only))
    elif only.report is not None and not options.json:
        console.result(report_table(only.report))
