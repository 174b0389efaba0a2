"""`search`: try recipes that differ in what the search block leaves open, and write those that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.api.session import PathLike, Session, chosen_host

if TYPE_CHECKING:
    from yolodeploy.trials import Judged, Tried
    from yolodeploy.trials import Searched as Found

SEARCH: Path = Path("search")
_MOST_TRIALS, _MOST_MINUTES = 10_000, 1e6


@dataclass(frozen=True, repr=False)
class Searched:
    """The result of a search: everything that was found, and the files with the figures of all trials (`.json`) and with the page."""

    found: Found
    figures: Path
    page: Path

    @property
    def front(self) -> Sequence[Judged]:
        """The recipes that nothing beats, the best by the first objective first."""
        return self.found.front

    @property
    def tried(self) -> Sequence[Tried]:
        """Every recipe that was tried."""
        return self.found.tried

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy search --json` prints it."""
        from yolodeploy.trials import described

        return {**described(self.found), "page": str(self.page)}

    def __repr__(self) -> str:
        return (
            f"<Searched {self.found.name}: {len(self.tried)} tried, {len(self.front)} on the front>"
        )

    def __str__(self) -> str:
        from yolodeploy.trials import search_table

        return search_table(self.found)

    def _repr_html_(self) -> str:
        from yolodeploy.api.notebook import head, table
        from yolodeploy.trials import front_rows

        titles, *rows = front_rows(self.found)
        count = f"{len(self.front)} recipes of {len(self.tried)} on the front"
        return head(self.found.name, count, good=bool(self.front)) + table(titles, rows, left=(0,))


def search(
    recipe: PathLike,
    *,
    space: PathLike | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    on: str | None = None,
    output: PathLike | None = None,
    session: Session | None = None,
) -> Searched:
    """Search for recipes that are better by the objectives of the recipe's search block, or of a file `space` that is one.

    `trials` and `minutes` are the budget, `seed` chooses the recipes (None: what the block says). `on` is a cluster that runs trials
    beside each other, or a host that measures. Recipes are written beside the recipe, the rest into the folder `search`, or everything into
    `output`. A search that was stopped goes on where it was.

    Raises RecipeError and PlanRefused for a space or an objective that cannot be searched, StoreProblem for the journal of another
    search, EnvironmentProblem if Optuna is not installed, ValueError for a budget that is none.
    """
    _require_budget(trials, minutes, seed)
    from yolodeploy.deployment import Request
    from yolodeploy.trials import Wish, quietly, search_recipe, write_front, write_results

    chosen, path = session or Session(), Path(recipe)
    folder = Path(output) if output else SEARCH
    store, run = chosen.open_store(), chosen.run_of("search", [path])
    quiet = replace(chosen, printer=quietly(chosen.console))
    with chosen_host(on, [path.parent]) as host:
        request = Request(path, chosen.allowed, chosen.store, trusted=chosen.trusted, host=host)
        wish = Wish(request, folder, Path(space) if space else None, trials, minutes, seed)
        executor = quiet.executor(None if host.name else on, run, store, lasting=True)
        found = search_recipe(wish, store, chosen.console, executor, run)
    found = write_front(found, Path(output) if output else path.parent)
    return Searched(found, *write_results(found, folder))


def _require_budget(trials: int | None, minutes: float | None, seed: int | None) -> None:
    """Raise ValueError for a budget with which a search would not begin, or never end."""
    if trials is not None and not (isinstance(trials, int) and 1 <= trials <= _MOST_TRIALS):
        raise ValueError(
            f"trials={trials!r} must be a whole number from 1 to {_MOST_TRIALS:,}, or None"
        )
    if minutes is not None and not 0 < minutes < _MOST_MINUTES:
        raise ValueError(f"minutes={minutes!r} must be a number greater than 0, or None")
    if seed is not None and not (isinstance(seed, int) and seed >= 0):
        raise ValueError(f"seed={seed!r} must be a whole number of at least 0, or None")
