"""`yolodeploy search`: try recipes that differ in what the search block leaves open, and write those that nothing beats."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.common import add_cluster, add_recipe, print_result, require_own, session_of
from yolodeploy.system import Console, shown

HELP = "search for better recipes, and write those that no other beats"
FOLDER = Path("search")


def add_options(command: argparse.ArgumentParser) -> None:
    """The recipe, its space and budget, where trials run, and where things go."""
    add_recipe(command)
    add_cluster(command, "; or measure on this host of hosts.toml (see `yolodeploy hosts`)")
    space = "a file with a search block, in place of the recipe's own"
    command.add_argument("--space", type=Path, metavar="FILE", help=space)
    trials = "how many recipes to try (default: the block's budget, or 40 if it sets none)"
    command.add_argument("--trials", type=_count, metavar="N", help=trials)
    minutes = "how long to search, in all runs together; trials that have begun are finished"
    command.add_argument("--minutes", type=_minutes, metavar="M", help=minutes)
    seed = "the same seed proposes the same recipes (default: the block's, or 0)"
    command.add_argument("--seed", type=_seed, metavar="N", help=seed)
    shared = "a store shared by a team (default: YOLODEPLOY_STORE)"
    command.add_argument("--store", metavar="URL", help=shared)
    where = "where all files go (default: recipes beside the recipe, the others in search)"
    command.add_argument("-o", "--output", type=Path, metavar="DIR", help=where)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 to 10,000")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least 0")
    return int(text)


def _minutes(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of minutes greater than 0")
    return found


def run(options: argparse.Namespace, console: Console) -> int:
    """Search, and print the front; 1 if no recipe keeps all limits."""
    from yolodeploy.api import search

    require_own(options.output or FOLDER, FOLDER, "-o")
    searched = search(
        options.recipe,
        space=options.space,
        trials=options.trials,
        minutes=options.minutes,
        seed=options.seed,
        on=options.on,
        output=options.output,
        session=session_of(options, console),
    )
    text = f"{searched}\n\npage: {shown(searched.page)}"
    print_result(console, options, searched.plain(), text)
    return 0 if searched.front else 1
