"""`yolodeploy compare`: bundles beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.common import print_result, write_new
from yolodeploy.errors import EnvironmentProblem, VerificationFailed
from yolodeploy.system import Console, shown

HELP = "compare bundles: size, accuracy, latency, recipes"


def add_options(command: argparse.ArgumentParser) -> None:
    """What to compare, and in which form."""
    what = "bundles (dist/NAME), report.json files, or folders of bundles (dist)"
    command.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help=what)
    command.add_argument(
        "-o",
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page, too: charts, and the same images through all of them",
    )
    form = "print a table in Markdown, for a pull request"
    command.add_argument("--markdown", action="store_true", help=form)


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the comparison; what could not be read is left out, and decides the exit code."""
    from yolodeploy.api import compare
    from yolodeploy.backend import MANIFEST

    if options.html and any(
        (above / MANIFEST).is_file() for above in options.html.absolute().parents
    ):
        raise EnvironmentProblem(
            f"{shown(options.html)}: lies in a bundle, which must stay as it was deployed. Choose another place for the page."
        )
    found = compare(options.bundles, raises=False)
    for problem in found.problems:
        console.error(problem)
    text = "" if options.json else found.markdown() if options.markdown else str(found)
    if options.html:
        write_new(options.html, found.page())
        console.info(f"page: {shown(options.html)}")
    print_result(console, options, found.plain() if options.json else None, text)
    return VerificationFailed.exit_code if found.problems else 0
