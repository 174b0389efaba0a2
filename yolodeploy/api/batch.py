"""Several recipes at once: which they are, what became of each, and one error for all that went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, overload

from yolodeploy.api.session import PathLike, Session
from yolodeploy.errors import YolodeployError

if TYPE_CHECKING:
    from yolodeploy.api.planned import Plan
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal
    from yolodeploy.jobs import Result as Made

    Named = PathLike | Plan  # a recipe by its path, or planned

One_co = TypeVar("One_co", bound="Ended", covariant=True)


class Ended(Protocol):
    """What became of a recipe or bundle."""

    @property
    def label(self) -> str:
        """What it is called."""

    @property
    def error(self) -> YolodeployError | None:
        """What went wrong; None if nothing did."""

    @property
    def passed(self) -> bool:
        """Whether all is well."""


class Results(Sequence[One_co], Generic[One_co]):
    """What became of several recipes, in the order in which they were named."""

    def __init__(self, each: Iterable[One_co]) -> None:
        self._each = tuple(each)

    @overload
    def __getitem__(self, index: int) -> One_co: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> One_co | Self:
        return type(self)(self._each[index]) if isinstance(index, slice) else self._each[index]

    def __len__(self) -> int:
        return len(self._each)

    @property
    def passed(self) -> bool:
        """Whether all of them went well."""
        return all(each.passed for each in self)

    def __repr__(self) -> str:
        lines = "".join(f"\n  {each!r}" for each in self)
        return f"<{sum(each.passed for each in self)} of {len(self)} passed{lines}>"

    def _repr_html_(self) -> str:
        from yolodeploy.api.notebook import head, table

        good = sum(each.passed for each in self)
        rows = [
            (each.label, each.error.kind if each.error else "passed", str(each.error or ""))
            for each in self
        ]
        top = head(f"{good} of {len(self)}", "passed", good=good == len(self))
        return top + table(("", "verdict", "what went wrong"), rows, left=(1, 2))


class Failures(ExceptionGroup[YolodeployError]):
    """Some of several recipes went wrong: an error each, for `except*`. `results` has what became of all of them."""

    results: Results[Ended]

    def derive(self, excs: Sequence[YolodeployError], /) -> Failures:  # type: ignore[override]
        """Part of the errors, with the same results."""
        part = Failures(self.message, excs)
        part.results = self.results
        return part


@dataclass(frozen=True)
class Asked:
    """The recipes of a call, and its session; `alone` says that it named one, not a list."""

    recipes: tuple[Path, ...]
    planned: tuple[tuple[str, ...], ...]
    session: Session
    alone: bool


def asked_for(what: Named | Sequence[Named], session: Session | None) -> Asked:
    """A recipe, a plan, or several of them. A plan brings its session along.

    Raises ValueError if there are none, or plans of different sessions.
    """
    from yolodeploy.api.planned import Plan

    alone = isinstance(what, Plan | str | os.PathLike)
    each = [what] if isinstance(what, Plan | str | os.PathLike) else list(what)
    if not each:
        raise ValueError("an empty list: name at least one recipe")
    sessions = [one.session for one in each if isinstance(one, Plan)]
    if session is None and any(other != sessions[0] for other in sessions):
        raise ValueError(
            "the plans were made in different sessions: plan all of them in one, or name it as `session`"
        )
    recipes = [one.recipe if isinstance(one, Plan) else Path(one) for one in each]
    planned = [one.ids if isinstance(one, Plan) else () for one in each]
    chosen = session or (sessions[0] if sessions else Session())
    return Asked(tuple(recipes), tuple(planned), chosen, alone)


def make(
    asked: Asked, request: Callable[..., Request], on: str | None, call: str, goal: Goal
) -> list[Made]:
    """Bring the recipes to the goal; `request` makes what each asks for, `on` is a cluster."""
    from yolodeploy.jobs import make_recipes

    session = asked.session
    requests = [
        request(recipe, session.allowed, planned=ids, trusted=session.trusted)
        for recipe, ids in zip(asked.recipes, asked.planned, strict=True)
    ]
    store, run = session.open_store(), session.run_of(call, asked.recipes)
    executor = session.executor(on, run, store)
    return make_recipes(requests, store, session.console, executor, run, goal=goal)


def answered(results: Results[One_co], *, alone: bool, raises: bool) -> One_co | Results[One_co]:
    """What a call returns: one, or all; or what went wrong, raised."""
    errors = [each.error for each in results if each.error] if raises else []
    if errors and alone:
        raise errors[0]
    if errors:
        failures = Failures(f"{len(errors)} of {len(results)} went wrong", errors)
        failures.results = results
        raise failures
    return results[0] if alone else results
