"""`yolodeploy deploy`: make, measure and check the artifact, and write its bundle and lock."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.common import add_building, open_store, print_result, require_own
from yolodeploy.errors import ChecksFailed
from yolodeploy.system import Console, shown

HELP = "make, measure and check the artifact, and write its bundle"
DIST = Path("dist")


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `build`, where the bundle goes, and who signs it."""
    add_building(command)
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
    """Deploy a recipe; a failed check still shows the table."""
    from yolodeploy.bundle.attest import read_private
    from yolodeploy.deploy import Request, deploy
    from yolodeploy.report import report_table

    require_own(options.dist, DIST, "--dist")
    # The key comes first: a wrong one should not cost a build.
    signer = read_private(options.key, console.warn) if options.key else None
    request = Request(
        options.recipe,
        options.allow,
        options.store,
        options.locked,
        options.dist,
        signer,
        accept_undecided=options.undecided == "accept",
        trusted=options.trusted,
    )
    try:
        deployed = deploy(request, open_store(options, console), console)
    except ChecksFailed as failed:
        if not options.json:
            console.result(report_table(failed.report))
        raise
    text = f"{report_table(deployed.report)}\n\nbundle: {shown(deployed.bundle)}"
    print_result(console, options, {**deployed.report, "bundle": str(deployed.bundle)}, text)
    return 0
