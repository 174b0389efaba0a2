"""The page of a search: the front among all trials, the figures of both halves, and what was given up and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.report import render
from yolodeploy.report.charts import Axis, Point, scatter
from yolodeploy.system import replace_file, shown, shown_json
from yolodeploy.trials.objectives import Objective
from yolodeploy.trials.results import Judged, Searched, Tried
from yolodeploy.trials.space import Overlay
from yolodeploy.trials.stages import Stage
from yolodeploy.trials.talk import shown_figure
from yolodeploy.trials.written.table import TITLES, counts, described, pair, recipe_name
from yolodeploy.trials.written.writing import with_interval

_GROUPS = {
    Stage.ALL: "measured",
    Stage.FEW: "given up on few images",
    Stage.SIZE: "given up: too large",
}
_AXES = {
    "size_mb": "size, MB",
    "map_drop": "loss of mAP50-95",
    "top1_drop": "loss of top-1 accuracy",
    "fidelity": "fidelity",
    "latency_ratio": "latency / fp32 export",
    "latency_ms": "latency, ms",
}


def write_results(searched: Searched, folder: Path) -> tuple[Path, Path]:
    """Write the figures of all trials and the page; returns both files. Links in their place are replaced, not followed."""
    figures, page = folder / f"{searched.name}.json", folder / f"{searched.name}.html"
    texts = f"{shown_json(described(searched))}\n", search_page(searched)
    for path, text in zip((figures, page), texts, strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text.encode())
        except OSError as error:
            raise EnvironmentProblem(
                f"{shown(path)}: cannot be written: {error.strerror}"
            ) from None
    return figures, page


def search_page(searched: Searched) -> str:
    """One self-contained page."""
    objectives = searched.objectives
    return render(
        "search.html",
        searched=searched,
        counts=counts(searched),
        objectives=[(TITLES[o.name], _limit(o)) for o in objectives],
        charts=[_chart(searched, *axes) for axes in _axes(objectives)],
        images=(searched.own.tried.outcome.images, searched.own.held_out_images),
        front=[_judged(searched, judged) for judged in searched.front],
        own=None if _own_is_best(searched) else _judged(searched, searched.own),
        trials=[_trial(searched, tried) for tried in searched.tried],
        given_up=any(tried.outcome.why for tried in searched.tried),
        refused=[(describe(overlay), why) for overlay, why in searched.refused],
    )


def _own_is_best(searched: Searched) -> bool:
    return any(judged.tried.number == 0 for judged in searched.front)


def _axes(objectives: Sequence[Objective]) -> Iterator[tuple[Objective, Objective]]:
    """The first objective against each of the others; against fidelity if it is the only one."""
    first, *others = objectives
    if not others:
        others = [Objective("size_mb" if first.name != "size_mb" else "fidelity")]
    for other in others:
        yield first, other


def _chart(searched: Searched, x: Objective, y: Objective) -> Any:
    own, chosen = searched.own.tried, {judged.tried.number for judged in searched.front}
    again = {tried.number for tried in searched.tried if tried.outcome.id == own.outcome.id}
    tried = [t for t in (own, *searched.tried) if t.number not in again]
    known = [t for t in tried if {x.name, y.name} <= t.outcome.figures.keys()]
    known.sort(key=lambda t: t.number not in chosen)
    points = {t.number: _point(t, x.name, y.name, chosen) for t in known}
    front = [points[number] for number in chosen if number in points]
    title = f"{_AXES[y.name]} over {_AXES[x.name]}: all trials, on the half that was searched"
    return scatter(
        title,
        list(points.values()),
        Axis(_AXES[x.name]),
        Axis(_AXES[y.name]),
        front=sorted(front, key=lambda point: point.x) if len(searched.objectives) == 2 else (),
    )


def _point(tried: Tried, x: str, y: str, chosen: set[int]) -> Point:
    figures = tried.outcome.figures
    name = f"trial {tried.number}" if tried.number else "the recipe itself"
    group = "on the front" if tried.number in chosen else _GROUPS.get(tried.outcome.stage, "")
    group = group if tried.number else "the recipe itself"
    note = f"{name}: {shown_figure(x, figures[x].value)}, {shown_figure(y, figures[y].value)}"
    note += f"; {describe(tried.overlay)}" if tried.overlay else ""
    return Point(str(tried.number or "own"), figures[x].value, figures[y].value, group, note=note)


def _judged(searched: Searched, judged: Judged) -> dict[str, Any]:
    seen = judged.tried.outcome.figures
    return {
        "recipe": recipe_name(searched, judged),
        "number": judged.tried.number,
        "what": describe(judged.tried.overlay) if judged.tried.overlay else "the recipe itself",
        "seen": [shown_figure(o.name, seen[o.name].value) for o in searched.objectives],
        "held": [
            "" if o.name == "size_mb" else with_interval(o.name, judged.held_out.get(o.name))
            for o in searched.objectives
        ],
    }


def _trial(searched: Searched, tried: Tried) -> dict[str, Any]:
    figures = tried.outcome.figures
    cells = [
        shown_figure(o.name, figures[o.name].value) if o.name in figures else ""
        for o in searched.objectives
    ]
    return {
        "number": tried.number,
        "what": describe(tried.overlay) if tried.overlay else "",
        "cells": cells,
        "images": tried.outcome.images,
        "why": tried.outcome.why,
        "whole": tried.outcome.stage == Stage.ALL,
        "seconds": tried.outcome.seconds,
    }


def _limit(objective: Objective) -> str:
    if objective.limit is None:
        return ""
    return f"{'at least' if objective.most else 'at most'} {objective.limit:g}"


def front_rows(searched: Searched) -> list[tuple[str, ...]]:
    """The front as a table: the titles, then a row for each recipe."""
    titles = ("recipe", *(TITLES[o.name] for o in searched.objectives))
    rows = [
        (recipe_name(searched, judged), *(pair(judged, o.name) for o in searched.objectives))
        for judged in searched.front
    ]
    return [titles, *rows]


def describe(overlay: Overlay) -> str:
    """The steps of a recipe in one line, and what else was changed."""
    steps = " > ".join(map(_step, overlay.steps))
    images = [f"{count} {view} images" for view, count in overlay.images.items()]
    return ", ".join([steps, *images, *([f"OS {overlay.os}"] if overlay.os else [])])


def _step(step: Any) -> str:
    if not isinstance(step, dict):
        return str(step)
    ((name, params),) = step.items()
    return f"{name}({', '.join(f'{key}: {_value(value)}' for key, value in params.items())})"


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_value(inner)}' for key, inner in value.items())}}}"
    return str(value)
