"""`yolodeploy schema`: the JSON Schema of recipes, for editors."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.common import write_new
from yolodeploy.system import Console, shown_json

HELP = "write the JSON Schema of recipes, for editors"


def add_options(command: argparse.ArgumentParser) -> None:
    """Where the schema goes."""
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where it goes (default: standard output)"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the schema with the installed plugins' steps and devices."""
    from yolodeploy.backend import load_registry, recipe_schema

    text = shown_json(recipe_schema(load_registry()))
    if options.output is None:
        console.result(text)
        return 0
    write_new(options.output, f"{text}\n")
    console.info(f"{options.output} written")
    return 0
