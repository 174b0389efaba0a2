"""Set the checks of recipes that were just written by a first measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from yolodeploy.backend import Place
from yolodeploy.deployment import Judged, Request
from yolodeploy.errors import YolodeployError
from yolodeploy.execution import Run
from yolodeploy.jobs import Executor, make_recipes
from yolodeploy.proposal.limits import measured
from yolodeploy.proposal.proposal import Proposal, Written, text_of
from yolodeploy.store import Store
from yolodeploy.system import Console, quotable, replace_file, shown


def measure_proposal(
    proposal: Proposal, store: Store, console: Console, executor: Executor, run: Run
) -> Proposal:
    """Build and measure every recipe, and write limits with a margin into it; no bundle is written.

    A recipe that cannot be measured keeps its first limits, and the console says why.
    """
    requests = [Request(written.path, proposal.allow) for written in proposal.recipes]
    results = make_recipes(requests, store, console, executor, run, bundles=True, ships=False)
    recipes = []
    for written, result in zip(proposal.recipes, results, strict=True):
        if result.error and len(results) == 1:
            raise result.error
        recipes.append(
            written if result.error else _limited(proposal, written, result.made, console)
        )
    return replace(proposal, recipes=recipes)


def _limited(proposal: Proposal, written: Written, made: object, console: Console) -> Written:
    """The recipe with limits around what was measured, unless somebody has changed it meanwhile."""
    report = cast("Judged", made).report
    limits = measured(report, proposal.model.info.task)
    limited = replace(written, limits=limits, note=_note(report))
    try:
        if written.path.read_text(encoding="utf-8") != text_of(proposal, written):
            console.warn(f"{shown(written.path)} was changed meanwhile and keeps its checks.")
            return written
        replace_file(written.path, text_of(proposal, limited).encode())
    except (OSError, YolodeployError) as error:
        console.warn(f"{shown(written.path)} keeps its first checks: {error}")
        return written
    return limited


def _note(report: Mapping[str, Any]) -> str:
    images, place = report["conditions"]["images"], Place(**report["conditions"]["place"])
    return f"Limits with a margin around what was measured on {images:,} images, on {quotable(place.words(), 200)}."
