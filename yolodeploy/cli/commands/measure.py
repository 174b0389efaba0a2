"""`yolodeploy measure`: evidence for an artifact that was built, from this machine or another; nothing is built."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.commands.deploy import DIST
from yolodeploy.cli.common import (
    add_host,
    add_mlflow,
    add_recipe,
    log_results,
    print_result,
    require_logger,
    require_own,
    session_of,
)
from yolodeploy.errors import ChecksFailed
from yolodeploy.system import Console

HELP = "measure an artifact that was built, here or on another machine, and add that to its bundle"


def add_options(command: argparse.ArgumentParser) -> None:
    """A recipe or a bundle, where it is measured, and who signs the bundle."""
    add_recipe(command, "a recipe, or a bundle (dist/NAME)")
    add_host(command)
    command.add_argument(
        "--dist", type=Path, default=DIST, metavar="DIR", help="where bundles are (default: dist)"
    )
    command.add_argument(
        "--key", type=Path, metavar="FILE", help="the Ed25519 private key (PEM) to sign with"
    )
    add_mlflow(command)
    shared = "a team's store that may have the artifact (default: YOLODEPLOY_STORE)"
    command.add_argument("--store", metavar="URL", help=shared)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure; a failed check still shows the table."""
    from yolodeploy.api import remeasure
    from yolodeploy.report import report_table

    require_own(options.dist, DIST, "--dist")
    require_logger(options)
    session = session_of(options, console)
    try:
        proof = remeasure(
            options.recipe, on=options.on, dist=options.dist, key=options.key, session=session
        )
    except ChecksFailed as failed:
        if not options.json:
            console.result(report_table(failed.report))
        raise
    log_results(options, console, [proof])
    print_result(console, options, proof.plain(), str(proof))
    return 0
