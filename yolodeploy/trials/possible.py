"""Which recipes of a space can be planned; a way or a value with which none can is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.deployment import Request
from yolodeploy.errors import PlanRefused, YolodeployError
from yolodeploy.planning import Plan, Planner
from yolodeploy.recipe import (
    Document,
    Position,
    Search,
    allowed_paths,
)
from yolodeploy.store import Store
from yolodeploy.system import Console, digest_of
from yolodeploy.trials.files import TrialFiles, halves
from yolodeploy.trials.objectives import Objective
from yolodeploy.trials.space import Overlay, Place, Space, point_of
from yolodeploy.trials.stages import reason_of

_MANY = 200  # values, which are planned in a fraction of a second
_TRIES = 24  # completions of a place's value, one of which must be a recipe that can be planned


@dataclass(frozen=True)
class Block:
    """A search block and where it is written."""

    search: Search
    document: Document
    prefix: tuple[str | int, ...]

    def where(self, *loc: str | int) -> Position:
        """The position of something in the block, as near as it is written."""
        value: Any = self.document.value
        found = list[str | int]()
        for key in (*self.prefix, *loc):
            if isinstance(value, dict) and key == 0 and key not in value:
                continue  # the only step of a way, which is not written as a list
            try:
                value = value[key]
            except (TypeError, LookupError):
                break
            found.append(key)
        return self.document.where(tuple(found))


class Trying:
    """Plans recipes of a space, to find those that cannot be."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        objectives: Sequence[Objective],
        request: Request,
        store: Store,
    ) -> None:
        project = allowed_paths(request.recipe, ()).project
        self._planner = Planner.of_store(
            store.root, (*request.allowed, project), trusted=request.trusted
        )
        self._files = TrialFiles(plan.file, folder, objectives)
        self._half = halves(plan.file.recipe.data.evaluation)[0]
        self._known: dict[str, str | None] = {}

    def refused(self, overlay: Overlay) -> str | None:
        """Why a recipe cannot be planned; None if it can."""
        if overlay.key not in self._known:
            try:
                self._planner.plan_file(self._files.recipe("planned", overlay, self._half))
                self._known[overlay.key] = None
            except YolodeployError as error:
                self._known[overlay.key] = reason_of(error)
        return self._known[overlay.key]


def require_possible(space: Space, block: Block, trying: Trying, console: Console) -> None:
    """Raise PlanRefused for a way or a value with which no recipe can be planned, and say where it is written."""
    every = [(place, value) for place in space.places() for value in place.values()]
    many = console.task("plan the space") if len(every) > _MANY else nullcontext()
    with many as report:
        for number, (place, value) in enumerate(every):
            if reason := _why_never(space, place, value, trying):
                raise PlanRefused(_impossible(place, value, block, reason))
            if report:
                report(number / len(every), f"{number}/{len(every)} values")


def _why_never(space: Space, place: Place, value: Any, trying: Trying) -> str | None:
    """Why no recipe with a value can be planned; None if one can."""
    reasons = list[str]()
    for overlay in _with(space, place, value):
        if (reason := trying.refused(overlay)) is None:
            return None
        reasons.append(reason)
    return reasons[0]


def _impossible(place: Place, value: Any, block: Block, reason: str) -> str:
    what = "this way" if place.ways else f"`{place.name.rpartition('.')[2]}: {value}`"
    at = block.where(*place.loc, *([value] if place.ways else []))
    return f"{at}: no recipe of this space is possible with {what}: {reason}"


def _with(space: Space, place: Place, value: Any) -> Iterator[Overlay]:
    """Recipes with a value: the usual one, then others, until whoever asks has seen enough."""
    fixed = {**space.leading_to(place), place.name: value}
    yield space.overlay(point_of(fixed, space.usual))
    for number in range(_TRIES):

        def choose(other: Place, number: int = number) -> Any:
            if other.name in fixed:
                return fixed[other.name]
            values = other.values()
            return values[int(digest_of([other.name, number])[:8], 16) % len(values)]

        yield space.overlay(choose)
