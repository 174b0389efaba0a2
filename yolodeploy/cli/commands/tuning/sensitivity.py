"""`yolodeploy sensitivity`: what compressing each layer alone costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolodeploy.cli.common import (
    add_host,
    add_recipe,
    open_store,
    print_result,
    require_own,
    write_new,
)
from yolodeploy.system import Console, shown, shown_json

HELP = "measure what compressing each layer alone costs"
FOLDER = Path("sensitivity")


def add_options(command: argparse.ArgumentParser) -> None:
    """The recipe, the number of images, and where the page goes."""
    add_recipe(command)
    add_host(command)
    command.add_argument(
        "--map",
        action="store_true",
        help="also measure the drop of mAP, or top-1, of every layer (slow)",
    )
    command.add_argument(
        "--images", type=_count, default=4, metavar="N", help="images to measure on (default: 4)"
    )
    where = "where the table and the plot go (default: sensitivity)"
    command.add_argument("-o", "--output", type=Path, default=FOLDER, metavar="DIR", help=where)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, at least 1")
    return int(text)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure single layers, and write the table and the plot."""
    from yolodeploy.api import chosen_host
    from yolodeploy.execution import Runner
    from yolodeploy.measure import survey_layers
    from yolodeploy.planning import plan_recipe
    from yolodeploy.report import layer_page, layer_table

    require_own(options.output, FOLDER, "-o")
    store = open_store(options, console)
    plan = plan_recipe(options.recipe, store.root, options.allow, trusted=options.trusted)
    runner = Runner(plan, store, console)
    name = runner.plan.file.recipe.name
    with chosen_host(options.on, [options.recipe.parent]) as host:
        tables = survey_layers(runner, options.images, by_map=options.map, host=host)
        stem = f"{name}.{host.name}" if host.name else name
    page = options.output / f"{stem}.html"
    value = {"name": name, "images": tables[0]["images"], "steps": tables, "page": str(page)}
    write_new(page, layer_page(name, tables))
    write_new(page.with_name(f"{stem}.json"), f"{shown_json(value)}\n")
    print_result(console, options, value, f"{layer_table(name, tables)}\n\nplot: {shown(page)}")
    return 0
