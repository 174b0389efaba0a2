"""`yolodeploy check`: whether recipes can be built."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import add_cluster, add_recipes, open_cluster, open_store, print_result
from yolodeploy.cli.several import worst
from yolodeploy.errors import DataError, YolodeployError
from yolodeploy.execution import as_error
from yolodeploy.system import Console, shown

if TYPE_CHECKING:
    from pathlib import Path

    from yolodeploy.planning import Plan, Planner
    from yolodeploy.store import Store

HELP = "check whether recipes can be built"


def add_options(command: argparse.ArgumentParser) -> None:
    """Recipes, and whether to look at every image."""
    add_recipes(command)
    add_cluster(command)
    every = "look at every image and label of the recipes, and report all that is wrong with them"
    command.add_argument("--data", action="store_true", help=every)


def run(options: argparse.Namespace, console: Console) -> int:
    """Plan every recipe, which reads its weights and labels, and print what is wrong with it.

    Returns the exit code of the worst error.
    """
    from yolodeploy.planning import Planner

    errors: list[YolodeployError] = []
    plans, rows, said = [], [], set[str]()
    store = open_store(options, console)
    with Planner.of_store(store.root, options.allow, trusted=options.trusted) as planner:
        for recipe in options.recipes:
            row: dict[str, Any] = {"recipe": str(recipe), "ok": True}
            try:
                plan = _planned(planner, recipe, row, said, options, console)
                plans.append((row, recipe, plan))
            except Exception as found:  # noqa: BLE001 - a bug stops no other recipe
                error = as_error(found, options.described)
                row.update(ok=False, error=str(error))
                errors.append(error)
                console.error(str(error))
            rows.append(row)
    if options.on:
        _ask_cluster(plans, options, store, console)
    good = "\n".join(_line(row) for row in rows if row["ok"])
    if good or options.json:
        print_result(console, options, rows, good)
    return worst(errors)


def _planned(
    planner: Planner,
    recipe: Path,
    row: dict[str, Any],
    said: set[str],
    options: argparse.Namespace,
    console: Console,
) -> Plan:
    """The plan of a recipe, described in its row."""
    from yolodeploy.planning import label_warnings

    if options.data:
        _require_sound(planner, recipe, row, console)
    plan = planner.plan(recipe)
    row |= _described(plan)
    _say_once(_views(plan), said, console.info)
    for warning in [*label_warnings(plan), *plan.warnings]:
        console.warn(warning)
    return plan


def _ask_cluster(
    plans: Sequence[tuple[dict[str, Any], Path, Plan]],
    options: argparse.Namespace,
    store: Store,
    console: Console,
) -> None:
    """Put into each row why a worker of the cluster could not run the recipe, instead of why this machine could not."""
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import plan_job

    jobs = {}
    for row, recipe, plan in plans:
        request = Request(recipe, options.allow, trusted=options.trusted)
        jobs[row["recipe"]] = plan_job(plan, request, store.root)
    with open_cluster(options, store, console) as cluster:
        outcomes = cluster.ask(list(jobs.values()))
    for row, _, _ in plans:
        outcome = outcomes[jobs[row["recipe"]].id]
        row["problem"] = outcome.fault.message if outcome.fault else outcome.other or None


def _require_sound(planner: Planner, recipe: Path, row: dict[str, Any], console: Console) -> None:
    """Raise DataError with every fault of the recipe's images and labels; the row lists them, too."""
    if faults := planner.survey(recipe, console):
        row["faults"] = faults
        count = f"{len(faults)} fault{'s' * (len(faults) != 1)}"
        raise DataError("\n".join([f"{recipe}: {count} in images and labels.", *faults]))


def _described(plan: Plan) -> dict[str, Any]:
    from yolodeploy.planning import problem_here

    views = {name: view.counts.plain() for name, view in plan.views.items()}
    return {
        "name": plan.file.recipe.name,
        "problem": problem_here(plan),
        "imgsz": plan.imgsz.plain,
        "warnings": list(plan.warnings),
        "views": views,
    }


def _views(plan: Plan) -> Iterator[str]:
    data = plan.file.recipe.data
    for name, view in plan.views.items():
        yield f"{shown(data.path)}, `{getattr(data, name).split}`: {view.counts}"


def _say_once(texts: Iterable[str], said: set[str], say: Callable[[str], None]) -> None:
    """Recipes share data sets: what is true of several is said once."""
    for text in texts:
        if text not in said:
            said.add(text)
            say(text)


def _line(row: dict[str, Any]) -> str:
    return f"{row['recipe']}: ok" + (f", but not here: {row['problem']}" if row["problem"] else "")
