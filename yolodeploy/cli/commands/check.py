"""`yolodeploy check`: whether recipes can be built."""

from __future__ import annotations

import argparse
from typing import Any

from yolodeploy.cli.common import add_recipes, open_store, print_result
from yolodeploy.errors import YolodeployError
from yolodeploy.system import Console

HELP = "check whether recipes can be built"
add_options = add_recipes


def run(options: argparse.Namespace, console: Console) -> int:
    """Plan every recipe and print what is wrong with it; return the exit code of the first error."""
    from yolodeploy.plan import Planner, problem_here

    code, rows = 0, []
    with Planner.of_store(open_store(options, console).root, options.allow) as planner:
        for recipe in options.recipes:
            row: dict[str, Any] = {"recipe": str(recipe), "ok": True}
            try:
                plan = planner.plan(recipe)
                row.update(name=plan.file.recipe.name, problem=problem_here(plan))
            except YolodeployError as error:
                row.update(ok=False, error=str(error))
                code = code or error.exit_code
                console.error(str(error))
            rows.append(row)
    good = "\n".join(_line(row) for row in rows if row["ok"])
    if good or options.json:
        print_result(console, options, rows, good)
    return code


def _line(row: dict[str, Any]) -> str:
    return f"{row['recipe']}: ok" + (f", but not here: {row['problem']}" if row["problem"] else "")
