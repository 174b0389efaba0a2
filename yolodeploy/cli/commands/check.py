"""`yolodeploy check`: whether recipes can be built."""

from __future__ import annotations

import argparse

from yolodeploy.cli.common import add_cluster, add_recipes, print_result, session_of
from yolodeploy.cli.several import exit_code
from yolodeploy.system import Console

HELP = "check whether recipes can be built"


def add_options(command: argparse.ArgumentParser) -> None:
    """Recipes, and whether to look at every image."""
    add_recipes(command)
    add_cluster(command)
    every = "look at every image and label of the recipes, and report all that is wrong with them"
    command.add_argument("--data", action="store_true", help=every)


def run(options: argparse.Namespace, console: Console) -> int:
    """Plan every recipe, which reads its weights and labels, and print what is wrong with it."""
    from yolodeploy.api import check

    session = session_of(options, console)
    found = check(options.recipes, data=options.data, on=options.on, raises=False, session=session)
    good = "\n".join(str(each) for each in found if each.passed)
    if good or options.json:
        print_result(console, options, [each.plain() for each in found], good)
    return exit_code(found)
