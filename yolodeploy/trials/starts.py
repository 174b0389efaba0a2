"""Where a search begins: at the recipe's own point, at the defaults, and once on every way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.recipe import Choice, Range, Recipe, SearchStep, StepRequest
from yolodeploy.trials.space import Place, Point, Space, fitted, point_of


def starts(space: Space, recipe: Recipe) -> list[Point]:
    """The points to try first, each once: the recipe's own if it lies in the space, then the usual ones."""
    found: dict[str, Point] = {}
    for point in _starts(space, recipe):
        complete: dict[str, Any] = {}
        key = space.overlay(_noting(complete, point, space)).key
        found.setdefault(key, complete)
    return list(found.values())


def own_point(space: Space, recipe: Recipe) -> Point | None:
    """The point of the space that the recipe is; None if it is none of them."""
    point = _views(space, recipe)
    if point is None:
        return None
    ends = _matches(space.steps, recipe.steps, "steps", space, {})
    match = next((found for rest, found in ends if not rest), None)
    return None if match is None else {**match, **point}


def _starts(space: Space, recipe: Recipe) -> Iterator[Point]:
    if own := own_point(space, recipe):
        yield own
    yield {}
    for place in space.places():
        for way in range(place.ways):
            yield {**space.leading_to(place), place.name: way}


def _noting(complete: dict[str, Any], point: Point, space: Space) -> Any:
    choose = point_of(point, space.usual)

    def chosen(place: Place) -> Any:
        complete[place.name] = choose(place)
        return complete[place.name]

    return chosen


def _views(space: Space, recipe: Recipe) -> dict[str, Any] | None:
    """The values of places outside the steps; None if the recipe has others."""
    found: dict[str, Any] = {}
    for name, value in space.images.items():
        view = getattr(recipe.data, name)
        if not _fits(value, view.images if view else None, f"data.{name}.images", found):
            return None
    if space.os is not None and not _fits(space.os, recipe.target.os, "target.os", found):
        return None
    return found


def _matches(
    entries: Sequence[SearchStep],
    steps: Sequence[StepRequest],
    name: str,
    space: Space,
    found: Mapping[str, Any],
    first: int = 0,
) -> Iterator[tuple[Sequence[StepRequest], dict[str, Any]]]:
    """Every way to read the recipe's steps as these entries: the steps that are left, and the values of places."""
    if not entries:
        yield steps, dict(found)
        return
    entry, here = entries[0], f"{name}.{first}"
    if entry.one_of is None:
        values = dict(found)
        if steps and _is_step(entry, steps[0], here, space, values):
            yield from _matches(entries[1:], steps[1:], name, space, values, first + 1)
        return
    for way, inner in enumerate(entry.one_of):
        taken = {**found, here: way}
        for rest, values in _matches(inner, steps, f"{here}.{way}", space, taken):
            yield from _matches(entries[1:], rest, name, space, values, first + 1)


def _is_step(
    entry: SearchStep, step: StepRequest, here: str, space: Space, found: dict[str, Any]
) -> bool:
    if entry.name != step.name:
        return False
    for key in {*entry.params, *step.params}:
        default = space.default(step.name, key)
        own = step.params.get(key, default)
        value = entry.params.get(key, default)
        if not _fits(value, own, f"{here}.{entry.name}.{key}", found):
            return False
    return True


def _fits(value: Any, own: Any, name: str, found: dict[str, Any]) -> bool:
    """Whether the recipe's value is one that may stand there; open places get it."""
    if isinstance(value, Choice):
        same = [
            v
            for v in value.values
            if _plain(v) == _plain(own) and isinstance(v, bool) == isinstance(own, bool)
        ]
        found.update({name: same[0]} if same else {})
        return bool(same)
    if isinstance(value, Range):
        inside = (
            isinstance(own, int | float)
            and value.low <= own <= value.high
            and fitted(value, own) == own
        )
        found.update({name: own} if inside else {})
        return inside
    if isinstance(value, dict) and isinstance(own, dict):
        return value.keys() == own.keys() and all(
            _fits(value[key], own[key], f"{name}.{key}", found) for key in value
        )
    return bool(_plain(value) == _plain(own))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
