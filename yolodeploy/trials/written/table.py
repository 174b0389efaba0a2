"""A search as a table for a terminal of 80 columns, and as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from yolodeploy.system import WIDTH
from yolodeploy.trials.proposals import as_plain
from yolodeploy.trials.results import Judged, Searched
from yolodeploy.trials.stages import Stage
from yolodeploy.trials.talk import shown_figure

TITLES = {
    "size_mb": "MB",
    "map_drop": "mAP drop",
    "top1_drop": "top-1 drop",
    "fidelity": "fidelity",
    "latency_ratio": "latency / fp32",
    "latency_ms": "ms",
}
_LEAST_NAME = 16  # columns of a recipe's name; what finds no room loses its beginning
_WIDTHS = {"size_mb": 5, "map_drop": 17, "top1_drop": 17}
_USUAL = 15


def search_table(searched: Searched) -> str:
    """The front with the figures of both halves side by side, the recipe itself, and what became of all trials."""
    return "\n".join(_lines(searched))


def _lines(searched: Searched) -> Iterator[str]:
    few, other = searched.own.tried.outcome.images, searched.own.held_out_images
    yield f"{searched.name}: {counts(searched)}"
    if not searched.front:
        yield "No recipe that was tried keeps all limits. The recipe itself:"
    heads = "".join(f"  {TITLES[o.name]:>{_width(o.name)}}" for o in searched.objectives)
    room = _room(searched, len(heads))
    yield f"\n{'':<{room}}{heads}"
    for judged in searched.front:
        yield _row(searched, judged, room)
    if all(judged.tried.number for judged in searched.front):
        yield f"{_row(searched, searched.own, room)}{'  (beaten)' * bool(searched.front)}"[
            :WIDTH
        ].rstrip()
    yield f"\nLeft: on the {few} images that the search saw. Right: on {other} others, which judge it."


def _room(searched: Searched, cells: int) -> int:
    """Columns for the names of recipes beside cells of so many."""
    longest = max(len(recipe_name(searched, j)) for j in (searched.own, *searched.front))
    return min(longest, max(_LEAST_NAME, WIDTH - cells))


def _row(searched: Searched, judged: Judged, room: int) -> str:
    cells = "".join(f"  {pair(judged, o.name):>{_width(o.name)}}" for o in searched.objectives)
    return f"{recipe_name(searched, judged)[-room:]:<{room}}{cells}"


def recipe_name(searched: Searched, judged: Judged) -> str:
    """The name of a recipe's file."""
    return (judged.recipe or searched.file.path).name


def _width(name: str) -> int:
    return _WIDTHS.get(name, _USUAL)


def pair(judged: Judged, name: str) -> str:
    """A figure on the half that was searched, and on the other; a size, which is the same on both, once."""
    seen, held = judged.tried.outcome.figures[name], judged.held_out.get(name)
    if name == "size_mb":
        return shown_figure(name, seen.value)
    return f"{shown_figure(name, seen.value)} / {shown_figure(name, held.value) if held else '?'}"


def counts(searched: Searched) -> str:
    """How many recipes were tried, and how many of them were given up why."""
    stages = [tried.outcome.stage for tried in searched.tried]
    words = {
        Stage.SIZE: "too large",
        Stage.FEW: "hopeless on few images",
        Stage.FAILED: "impossible to build",
    }
    parts = [f"{stages.count(stage)} {text}" for stage, text in words.items() if stage in stages]
    given_up = f", {', '.join(parts)}" if parts else ""
    whole = f"{stages.count(Stage.ALL)} measured{given_up}"
    rest = "; the space has no more" if searched.exhausted else ""
    return f"{len(stages)} recipes in {searched.seconds / 60:.1f} min: {whole}{rest}"


def described(searched: Searched) -> dict[str, Any]:
    """A search as plain data."""
    return {
        "name": searched.name,
        "recipe": str(searched.file.path),
        "objectives": [asdict(objective) for objective in searched.objectives],
        "seconds": searched.seconds,
        "exhausted": searched.exhausted,
        "own": _judged(searched.own),
        "front": [_judged(judged) for judged in searched.front],
        "tried": [
            {
                "number": tried.number,
                **(as_plain(tried.overlay) if tried.overlay else {}),
                **tried.outcome.plain(),
            }
            for tried in searched.tried
        ],
        "refused": [{**as_plain(overlay), "why": why} for overlay, why in searched.refused],
    }


def _judged(judged: Judged) -> dict[str, Any]:
    return {
        "number": judged.tried.number,
        "recipe": str(judged.recipe) if judged.recipe else None,
        "searched": {
            "images": judged.tried.outcome.images,
            **{name: asdict(figure) for name, figure in judged.tried.outcome.figures.items()},
        },
        "held_out": {
            "images": judged.held_out_images,
            **{name: asdict(figure) for name, figure in judged.held_out.items()},
        },
    }
