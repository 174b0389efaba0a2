"""`yolodeploy build`: make artifacts, without measuring them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

from yolodeploy.cli.common import add_building, open_executor, open_store, print_result
from yolodeploy.cli.several import described, exit_code
from yolodeploy.system import Console

if TYPE_CHECKING:
    from yolodeploy.store import Stored

HELP = "make artifacts, without measuring them"
add_options = add_building


def run(options: argparse.Namespace, console: Console) -> int:
    """Make the artifacts and say where they are."""
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal, make_recipes
    from yolodeploy.report import summary_table

    requests = [
        Request(
            recipe,
            options.allow,
            options.store,
            locked=options.locked,
            trusted=options.trusted,
        )
        for recipe in options.recipes
    ]
    store = open_store(options, console)
    executor = open_executor(options, store, console)
    results = make_recipes(requests, store, console, executor, options.described, goal=Goal.BUILD)
    if len(results) > 1:
        rows = [described(result, _value) for result in results]
        print_result(console, options, rows, summary_table(rows))
        return exit_code(results)
    (only,) = results
    if only.error:
        raise only.error
    value = _value(cast("Stored", only.made))
    size = f"{value['bytes'] / 1e6:.2f} MB"
    text = f"{value['path']}\n{value['format']}, {size}, sha256 {value['digest']}"
    print_result(console, options, value, text)
    return 0


def _value(built: Stored) -> dict[str, Any]:
    return {
        "format": built.meta.format,
        "path": str(built.path),
        "digest": built.meta.digest,
        "bytes": built.meta.bytes,
        "cached": built.cached,
    }
