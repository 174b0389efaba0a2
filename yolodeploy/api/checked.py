"""`check`: whether recipes can be built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from yolodeploy.api.batch import Results, answered, asked_for
from yolodeploy.api.session import Session
from yolodeploy.errors import DataError, YolodeployError
from yolodeploy.execution import Run, as_error
from yolodeploy.system import ImageShape, shown

if TYPE_CHECKING:
    from yolodeploy.api.batch import Named
    from yolodeploy.planning import Plan, Planner
    from yolodeploy.store import Store


@dataclass(frozen=True)
class Checked:
    """Whether a recipe can be built: `error` says why not, `problem` why not here (on no worker of the cluster that was asked).

    `views` are what was read of the data set, by the name of the view; `faults` all that is wrong with images and labels, if that was
    asked for; `warnings` what may not be meant.
    """

    recipe: Path
    name: str = ""
    imgsz: ImageShape | None = None
    problem: str | None = None
    warnings: tuple[str, ...] = ()
    views: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    error: YolodeployError | None = None

    @property
    def label(self) -> str:
        """What it is called."""
        return shown(self.recipe)

    @property
    def passed(self) -> bool:
        """Whether the recipe can be built, here or elsewhere."""
        return self.error is None

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy check --json` prints it."""
        row: dict[str, Any] = {"recipe": str(self.recipe), "ok": self.error is None}
        if self.faults:
            row["faults"] = list(self.faults)
        if self.error:
            return {**row, "error": str(self.error)}
        return {
            **row,
            "name": self.name,
            "problem": self.problem,
            "imgsz": self.imgsz and self.imgsz.plain,
            "warnings": list(self.warnings),
            "views": dict(self.views),
        }

    def __str__(self) -> str:
        if self.error:
            return f"error: {self.error}"
        return f"{self.recipe}: ok" + (f", but not here: {self.problem}" if self.problem else "")


@overload
def check(  # type: ignore[overload-overlap] # a str is one path, not several
    what: Named,
    *,
    data: bool = False,
    on: str | None = None,
    raises: bool = True,
    session: Session | None = None,
) -> Checked: ...


@overload
def check(
    what: Sequence[Named],
    *,
    data: bool = False,
    on: str | None = None,
    raises: bool = True,
    session: Session | None = None,
) -> Results[Checked]: ...


def check(
    what: Named | Sequence[Named],
    *,
    data: bool = False,
    on: str | None = None,
    raises: bool = True,
    session: Session | None = None,
) -> Checked | Results[Checked]:
    """Plan recipes, which reads their weights and labels, and say whether they can be built; nothing runs.

    `data` looks at every image and label, and reports all that is wrong with them; `on` is a cluster whose workers are asked instead of
    this machine. Raises as `deploy` does.
    """
    asked = asked_for(what, session)
    session = asked.session
    store, run = session.open_store(), session.run_of("check", asked.recipes)
    plans: dict[Path, Plan] = {}
    results: list[Checked] = []
    look = partial(_checked, session=session, run=run, said=set[str](), plans=plans, data=data)
    with session.planner(store, run) as planner:
        for recipe in asked.recipes:
            results.append(look(planner, recipe))
            if (error := results[-1].error) and not asked.alone:
                session.console.error(str(error))
    if on:
        problems = _problems(plans, on, session, store, run)
        results = [replace(each, problem=problems.get(each.recipe)) for each in results]
    return answered(Results(results), alone=asked.alone, raises=raises)


def _checked(
    planner: Planner,
    recipe: Path,
    *,
    session: Session,
    run: Run,
    said: set[str],
    plans: dict[Path, Plan],
    data: bool,
) -> Checked:
    """What there is to say of a recipe; a bug stops no other. Recipes share data sets: what is true of several is `said` once."""
    from yolodeploy.planning import label_warnings, problem_here

    console = session.console
    try:
        if data and (faults := planner.survey(recipe, console)):
            return Checked(recipe, faults=tuple(faults), error=_unsound(recipe, faults))
        plan = planner.plan(recipe)
        _require_searchable(plan, session)
    except Exception as found:  # noqa: BLE001
        return Checked(recipe, error=as_error(found, run))
    plans[recipe] = plan
    for text in filter(lambda text: text not in said, _views(plan)):
        said.add(text)
        console.info(text)
    for warning in [*label_warnings(plan), *plan.warnings]:
        console.warn(warning)
    views = {name: view.counts.plain() for name, view in plan.views.items()}
    name, problem = plan.file.recipe.name, problem_here(plan)
    return Checked(recipe, name, plan.imgsz, problem, tuple(plan.warnings), views)


def _require_searchable(plan: Plan, session: Session) -> None:
    """Refuse a search block that cannot be searched."""
    if plan.file.recipe.search is None:
        return
    from yolodeploy.deployment import Request
    from yolodeploy.trials import require_searchable

    request = Request(plan.file.path, session.allowed, trusted=session.trusted)
    require_searchable(plan, request, session.open_store(), session.console)


def _unsound(recipe: Path, faults: Sequence[str]) -> DataError:
    count = f"{len(faults)} fault{'s' * (len(faults) != 1)}"
    return DataError("\n".join([f"{recipe}: {count} in images and labels.", *faults]))


def _views(plan: Plan) -> Iterator[str]:
    data = plan.file.recipe.data
    for name, view in plan.views.items():
        yield f"{shown(data.path)}, `{getattr(data, name).split}`: {view.counts}"


def _problems(
    plans: Mapping[Path, Plan], on: str, session: Session, store: Store, run: Run
) -> dict[Path, str | None]:
    """Why a worker of the cluster could not run a recipe, instead of why this machine could not."""
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import plan_job

    jobs = {}
    for recipe, plan in plans.items():
        request = Request(recipe, session.allowed, trusted=session.trusted)
        jobs[recipe] = plan_job(plan, request, store.root)
    with session.cluster(on, run, store) as cluster:
        outcomes = cluster.ask(list(jobs.values()))
    found = {recipe: outcomes[job.id] for recipe, job in jobs.items()}
    return {
        recipe: outcome.fault.message if outcome.fault else outcome.other or None
        for recipe, outcome in found.items()
    }
