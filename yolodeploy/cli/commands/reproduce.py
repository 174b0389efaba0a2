"""`yolodeploy reproduce`: build recipes again under other conditions, and compare every byte."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolodeploy.cli.common import add_recipes, open_store, print_result
from yolodeploy.errors import EnvironmentProblem, NotReproduced, YolodeployError
from yolodeploy.system import Console

HELP = "rebuild recipes under other conditions, and compare every byte with their locks"


def add_options(command: argparse.ArgumentParser) -> None:
    """The recipes, and whether to keep what was built."""
    add_recipes(command)
    command.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what was built in this new folder"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Reproduce every recipe; return the exit code of the first error.

    The recipes share one store that is empty at first, so that common steps run once.
    """
    from yolodeploy.planning import plan_recipe
    from yolodeploy.reproduce import reproduce, vary
    from yolodeploy.store import Store

    store, rows, code = open_store(options, console), [], 0
    with _folder(options.keep) as home:
        variations = vary(home)
        for recipe in options.recipes:
            start = time.monotonic()
            row: dict[str, Any] = {"recipe": str(recipe), "ok": True, "steps": 0}
            try:
                plan = plan_recipe(recipe, store.root, options.allow, trusted=options.trusted)
                row["steps"] = len(plan.steps)
                reproduce(plan, store, Store(home / "store", console.warn), variations, console)
            except YolodeployError as error:
                row.update(ok=False, error=str(error), exit_code=error.exit_code)
                code = code or error.exit_code
                console.error(str(error))
            row["seconds"] = round(time.monotonic() - start, 1)
            rows.append(row)
    print_result(
        console, options, {"elsewhere": variations.described(), "recipes": rows}, _table(rows)
    )
    return code


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """A new folder: the one to keep, or one that is removed at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="yolodeploy-reproduce-") as folder:
            yield Path(folder).resolve()
        return
    try:
        keep.mkdir(parents=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"--keep {keep}: {error.strerror}. Name a folder that does not exist yet."
        ) from None
    yield keep.resolve()


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    width = max(len(Path(row["recipe"]).stem) for row in rows)
    lines = [f"{'recipe':<{width}}  steps  seconds"]
    lines += [
        f"{Path(row['recipe']).stem:<{width}}  {row['steps']:>5}  {row['seconds']:>7.1f}  {_result(row)}"
        for row in rows
    ]
    good = sum(row["ok"] for row in rows)
    lines.append(f"{good} of {len(rows)} reproduced byte for byte")
    return "\n".join(lines)


def _result(row: Mapping[str, Any]) -> str:
    if row["ok"]:
        return "ok"
    return "NOT REPRODUCED" if row["exit_code"] == NotReproduced.exit_code else "FAILED"
