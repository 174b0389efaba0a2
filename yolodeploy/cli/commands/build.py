"""`yolodeploy build`: make artifacts, without measuring them."""

from __future__ import annotations

import argparse

from yolodeploy.cli.common import add_building, print_result, session_of
from yolodeploy.cli.several import exit_code
from yolodeploy.system import Console

HELP = "make artifacts, without measuring them"
add_options = add_building


def run(options: argparse.Namespace, console: Console) -> int:
    """Make the artifacts and say where they are."""
    from yolodeploy.api import build

    session = session_of(options, console)
    found = build(
        options.recipes, on=options.on, locked=options.locked, raises=False, session=session
    )
    if len(found) > 1:
        from yolodeploy.report import summary_table

        rows = [each.plain() for each in found]
        print_result(console, options, rows, summary_table(rows))
        return exit_code(found)
    if found[0].error:
        raise found[0].error
    print_result(console, options, found[0].artifact(), str(found[0]))
    return 0
