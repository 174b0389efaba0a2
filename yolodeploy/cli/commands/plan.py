"""`yolodeploy plan`: what a deployment would do, and which results are stored already."""

from __future__ import annotations

import argparse

from yolodeploy.cli.common import add_recipe, print_result, session_of
from yolodeploy.system import Console

HELP = "show the steps, their ids, and what is cached"
add_options = add_recipe


def run(options: argparse.Namespace, console: Console) -> int:
    """Show the steps in order."""
    from yolodeploy.api import plan

    found = plan(options.recipe, session=session_of(options, console))
    print_result(console, options, found.plain(), str(found))
    return 0
