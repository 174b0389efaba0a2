"""The space of a search: the steps as a tree with open places, and what becomes of it when each place gets a value.

A place has a name, by which the sampler knows it: where it lies in the tree, such as `steps.1`, which way is taken there, and
`steps.1.0.palettize.bits`, a parameter on the first of these ways.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from yolodeploy.recipe import Choice, Open, Range, Search, SearchStep

DIGITS = 3  # of a number that is not in steps: more would only make recipes harder to read
_Loc = tuple[str | int, ...]
Point: TypeAlias = Mapping[
    str, Any
]  # values by the names of places: of `one_of` the number of a way


@dataclass(frozen=True)
class Place:
    """An open place: its name, where it is written below the search block, and what may stand there.

    `ways` is how many ways a `one_of` has, 0 for a value.
    """

    name: str
    loc: _Loc
    domain: Open
    ways: int = 0

    def values(self) -> tuple[Any, ...]:
        """Every value of a choice; the ends and the middle of a range."""
        if isinstance(self.domain, Choice):
            return self.domain.values
        return self.domain.low, middle(self.domain), self.domain.high


@dataclass(frozen=True)
class Overlay:
    """What a point changes in the recipe: its steps as plain YAML values, images of views, OS version."""

    steps: tuple[Any, ...]
    images: Mapping[str, int] = field(default_factory=dict)
    os: str | None = None

    @property
    def key(self) -> str:
        """The same for the same changes."""
        return json.dumps([self.steps, dict(self.images), self.os], sort_keys=True)


Choose: TypeAlias = Callable[[Place], Any]


@dataclass(frozen=True)
class Space:
    """What may vary: entries of steps, images of views, OS version; `default` finds a parameter's default."""

    steps: tuple[SearchStep, ...]
    images: Mapping[str, Any]
    os: Any
    default: Callable[[str, str], Any] = lambda _step, _name: None

    @classmethod
    def of(
        cls,
        search: Search,
        own: Sequence[SearchStep],
        default: Callable[[str, str], Any] = lambda _step, _name: None,
    ) -> Space:
        """The space of a search block; `own` are the recipe's steps, for a block that names none."""
        data = search.data
        views = {"calibration": data.calibration, "training": data.training} if data else {}
        images = {name: view.images for name, view in views.items() if view}
        os = search.target.os if search.target else None
        return cls(tuple(search.steps or own), images, os, default)

    def overlay(self, choose: Choose) -> Overlay:
        """The changes with a value for every place that is reached, as `choose` says, in a fixed order."""
        steps = tuple(self._steps(self.steps, ("steps",), "steps", choose))
        images = {
            name: _filled(value, ("data", name, "images"), f"data.{name}.images", choose)
            for name, value in self.images.items()
        }
        return Overlay(steps, images, _filled(self.os, ("target", "os"), "target.os", choose))

    def places(self) -> list[Place]:
        """Every place, those on all ways included."""
        found: list[Place] = []

        def note(place: Place) -> Any:
            found.append(place)
            return place.values()[0]

        self._visit(self.steps, ("steps",), "steps", note)
        self.overlay(
            lambda place: place.values()[0] if place.name.startswith("steps") else note(place)
        )
        return found

    def usual(self, place: Place) -> Any:
        """The value to begin with: the parameter's default if that is allowed, else the first or the middle; the first way."""
        step, _, name = place.name.rpartition(".")
        default = self.default(step.rpartition(".")[2], name)
        if isinstance(place.domain, Choice):
            return default if default in place.domain.values else place.domain.values[0]
        inside = (
            isinstance(default, int | float) and place.domain.low <= default <= place.domain.high
        )
        return default if inside else middle(place.domain)

    def leading_to(self, place: Place) -> dict[str, Any]:
        """The ways that must be taken so that a place is reached."""
        found: dict[str, Any] = {}
        for other in self.places():
            if other.ways and place.name.startswith(f"{other.name}."):
                found[other.name] = int(place.name[len(other.name) + 1 :].partition(".")[0])
        return found

    def _steps(
        self, entries: Sequence[SearchStep], loc: _Loc, name: str, choose: Choose
    ) -> Iterator[Any]:
        for number, entry in enumerate(entries):
            here, at = f"{name}.{number}", (*loc, number)
            if entry.one_of is None:
                yield _step(entry, at, here, choose)
                continue
            way = choose(_fork(entry, here, at))
            inner = entry.one_of[way]
            yield from self._steps(inner, (*at, "one_of", way), f"{here}.{way}", choose)

    def _visit(self, entries: Sequence[SearchStep], loc: _Loc, name: str, note: Choose) -> None:
        for number, entry in enumerate(entries):
            here, at = f"{name}.{number}", (*loc, number)
            if entry.one_of is None:
                _step(entry, at, here, note)
                continue
            note(_fork(entry, here, at))
            for way, inner in enumerate(entry.one_of):
                self._visit(inner, (*at, "one_of", way), f"{here}.{way}", note)


def _fork(entry: SearchStep, name: str, loc: _Loc) -> Place:
    ways = len(entry.one_of or ())
    return Place(name, (*loc, "one_of"), Choice(values=tuple(range(ways))), ways)


def _step(entry: SearchStep, loc: _Loc, name: str, choose: Choose) -> Any:
    if not entry.params:
        return entry.name
    params = {
        key: _filled(value, (*loc, entry.name, key), f"{name}.{entry.name}.{key}", choose)
        for key, value in entry.params.items()
    }
    return {entry.name: params}


def _filled(value: Any, loc: _Loc, name: str, choose: Choose) -> Any:
    if isinstance(value, Choice | Range):
        return choose(Place(name, loc, value))
    if isinstance(value, dict):
        return {
            key: _filled(inner, (*loc, key), f"{name}.{key}", choose)
            for key, inner in value.items()
        }
    return value


def middle(domain: Open) -> Any:
    """The middle of a range, as a value that it has."""
    assert isinstance(domain, Range)  # noqa: S101 - a choice has none
    low, high = domain.low, domain.high
    exact = math.sqrt(low * high) if domain.log else (low + high) / 2
    return fitted(domain, exact)


def fitted(domain: Range, value: float) -> Any:
    """A number as recipes have it: whole, in steps, or with three digits, and within the range."""
    if domain.step:
        value = domain.low + round((value - domain.low) / domain.step) * domain.step
    if domain.whole:
        return int(min(max(round(value), domain.low), domain.high))
    rounded = float(f"{value:.{DIGITS if not domain.step else 9}g}")
    return float(min(max(rounded, domain.low), domain.high))


def point_of(point: Point, usual: Callable[[Place], Any]) -> Choose:
    """Choose the values of a point, and the usual ones where it says nothing."""
    return lambda place: point[place.name] if place.name in point else usual(place)
