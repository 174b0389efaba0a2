"""`yolodeploy deploy`: make, measure and check artifacts, and write their bundles and locks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolodeploy.cli.common import (
    add_building,
    chosen_host,
    open_executor,
    open_store,
    print_result,
    require_own,
)
from yolodeploy.cli.several import described, exit_code
from yolodeploy.errors import ChecksFailed
from yolodeploy.system import Console, shown

if TYPE_CHECKING:
    from yolodeploy.deployment import Deployed
    from yolodeploy.jobs import Result

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
        help="ship the artifact although noise could turn the verdict of a check over (default: refuse)",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Deploy recipes; a failed check still shows the table."""
    from yolodeploy.bundle.attest import read_private
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal, make_recipes
    from yolodeploy.report import summary_table

    require_own(options.dist, DIST, "--dist")
    # The key comes first: a wrong one should not cost a build.
    signer = read_private(options.key, console.warn) if options.key else None
    store = open_store(options, console)
    with chosen_host(options, [recipe.parent for recipe in options.recipes]) as host:
        requests = [
            Request(
                recipe,
                options.allow,
                options.store,
                options.locked,
                options.dist,
                signer,
                accept_undecided=options.undecided == "accept",
                trusted=options.trusted,
                host=host,
            )
            for recipe in options.recipes
        ]
        executor = open_executor(options, store, console, elsewhere=bool(host.name))
        results = make_recipes(
            requests, store, console, executor, options.described, goal=Goal.DEPLOY
        )
    if len(results) > 1:
        rows = [described(result, _value) for result in results]
        print_result(console, options, rows, summary_table(rows))
        return exit_code(results)
    _print(options, console, results[0])
    return 0


def _print(options: argparse.Namespace, console: Console, result: Result) -> None:
    """Print the only recipe's report, or raise its error."""
    from yolodeploy.report import report_table

    if result.error:
        if isinstance(result.error, ChecksFailed) and not options.json:
            console.result(report_table(result.error.report))
        raise result.error
    deployed = cast("Deployed", result.made)
    text = f"{report_table(deployed.report)}\n\nbundle: {shown(deployed.bundle)}"
    print_result(console, options, _value(deployed), text)


def _value(deployed: Deployed) -> dict[str, Any]:
    return {**deployed.report, "bundle": str(deployed.bundle)}
