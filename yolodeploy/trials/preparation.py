"""What a search needs before anything runs: the plan, the space, where it begins; and everything that can be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from yolodeploy.backend import load_registry
from yolodeploy.deployment import Request
from yolodeploy.errors import PlanRefused, RecipeError
from yolodeploy.hosts import Host
from yolodeploy.planning import Plan, Planner
from yolodeploy.recipe import (
    Position,
    RecipeFile,
    Search,
    SearchStep,
    describe_errors,
    load_yaml,
)
from yolodeploy.store import Store
from yolodeploy.system import Console, digest_of, shown
from yolodeploy.trials.files import Half, halves
from yolodeploy.trials.journal import about_search
from yolodeploy.trials.objectives import Objective, require_measurable, wanted
from yolodeploy.trials.possible import Block, Trying, require_possible
from yolodeploy.trials.space import Overlay, Point, Space
from yolodeploy.trials.starts import starts

_USUAL_TRIALS = 40


@dataclass(frozen=True)
class Wish:
    """What is asked for: the recipe, a file with the space in place of the recipe's block, the budget, a folder for the journal.

    None for a budget or a seed takes that of the block.
    """

    request: Request
    folder: Path
    space: Path | None = None
    trials: int | None = None
    minutes: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A search that can begin. `own` is the recipe itself, `halves` those of its images, `where` the positions of objectives."""

    wish: Wish
    plan: Plan
    space: Space
    objectives: Sequence[Objective]
    where: Mapping[str, Position]
    own: Overlay
    starts: Sequence[Point]
    halves: tuple[Half, Half]
    images: int
    folder: Path
    about: Mapping[str, Any]
    trials: int | None
    minutes: float | None
    kind: str
    seed: int
    refused: Callable[[Overlay], str | None] = field(repr=False)

    @property
    def journal(self) -> Path:
        """The file of the search's journal."""
        return self.wish.folder / f"{self.plan.file.recipe.name}.journal"


def prepare(
    wish: Wish, store: Store, console: Console, elsewhere: Callable[[Path], None]
) -> Prepared:
    """Plan a search; raises RecipeError, PlanRefused and whatever planning the recipe raises.

    `elsewhere` lets another process read weights that nobody has read yet, see `Planner`.
    """
    request = wish.request
    planner = Planner.of_store(
        store.root, request.allowed, trusted=request.trusted, elsewhere=elsewhere
    )
    with planner:
        plan = planner.plan(request.recipe)
    block = _block(wish, plan.file)
    objectives, where = _objectives(block, plan, request.host)
    search, images = block.search, len(plan.views["evaluation"])
    if images < 2:
        raise PlanRefused(
            f"{plan.file.where('data', 'evaluation')}: a search judges on half of the evaluation images, and here is {images}. Name more."
        )
    space = _space(block, plan)
    seed = search.seed if wish.seed is None else wish.seed
    kind = search.sampler or ("tpe" if len(objectives) == 1 else "nsga2")
    about = about_search(plan, search, space, seed, kind)
    folder = store.root / "searches" / digest_of(about)[:16]
    trying = Trying(plan, folder, objectives, request, store)
    require_possible(space, block, trying, console)
    recipe = plan.file.recipe
    own = Overlay(tuple(_plain_step(plan.file, index) for index in range(len(recipe.steps))))
    asked = wish.trials or wish.minutes  # the command line replaces the block's budget
    budget = wish if asked else search.budget
    trials = budget.trials or (None if budget.minutes else _USUAL_TRIALS)
    return Prepared(
        wish, plan, space, objectives, where, own, starts(space, recipe), halves(recipe.data.evaluation),
        images, folder, about, trials, budget.minutes, kind, seed, trying.refused,
    )  # fmt: skip


def require_searchable(plan: Plan, request: Request, store: Store, console: Console) -> None:
    """Refuse a search block of a recipe that cannot be searched, as far as that does not depend on where figures are measured."""
    if plan.file.recipe.search is None:
        return
    block = Block(plan.file.recipe.search, plan.file.document, ("search",))
    objectives, _ = _objectives(block, plan, None)
    folder = store.root / "searches" / plan.final.id[:16]
    trying = Trying(plan, folder, objectives, request, store)
    require_possible(_space(block, plan), block, trying, console)


def _objectives(
    block: Block, plan: Plan, host: Host | None
) -> tuple[Sequence[Objective], Mapping[str, Position]]:
    """The objectives and where they are written; PlanRefused for one that nothing measures."""
    objectives = wanted(block.search.objectives)
    where = {o.name: block.where("objectives", o.name) for o in objectives}
    require_measurable(objectives, plan, host, where)
    return objectives, where


def _block(wish: Wish, file: RecipeFile) -> Block:
    """The search block: of the file that the command line names, else the recipe's."""
    if wish.space is None:
        if file.recipe.search is None:
            raise RecipeError(
                f"{shown(file.path)}: has no `search:` block. Add one, or name a file that is one: --space FILE"
            )
        return Block(file.recipe.search, file.document, ("search",))
    document = load_yaml(wish.space, short=True)
    if not isinstance(document.value, dict):
        raise RecipeError(
            f"{shown(wish.space)}:1:1: must be a mapping with `steps:` and `objectives:`"
        )
    try:
        return Block(Search.model_validate(document.value), document, ())
    except ValidationError as error:
        raise RecipeError(describe_errors(error, document, Search)) from None


def _space(block: Block, plan: Plan) -> Space:
    """The space; PlanRefused if it is empty, or names steps or parameters that there are not."""
    registry = load_registry()
    offered = [step for _, step in registry.offered(plan.backend)]
    params = {step.name: step.params for step in reversed(offered)}

    def default(step: str, name: str) -> Any:
        found = params[step].model_fields.get(name) if step in params else None
        return None if found is None else found.get_default(call_default_factory=True)

    folder = block.where("steps").file.parent
    own = [SearchStep(name=s.name, params=s.params) for s in plan.file.recipe.steps]
    entries = tuple(_with_paths(entry, folder) for entry in block.search.steps or ())
    space = Space.of(block.search.model_copy(update={"steps": entries or None}), own, default)
    if not space.places():
        raise PlanRefused(
            f"{block.where()}: nothing in the search block may vary. Write a value as {{choice: [...]}} or {{from: ..., to: ...}}, or "
            "steps as `one_of:`."
        )
    return space


def _with_paths(entry: SearchStep, folder: Path) -> SearchStep:
    """An entry with whole paths of pinned files, which are relative to the file that names them."""
    if entry.one_of is not None:
        ways = tuple(tuple(_with_paths(inner, folder) for inner in way) for way in entry.one_of)
        return entry.model_copy(update={"one_of": ways})
    return entry.model_copy(
        update={"params": {k: _pinned(v, folder) for k, v in entry.params.items()}}
    )


def _pinned(value: Any, folder: Path) -> Any:
    if isinstance(value, dict) and value.keys() == {"file", "sha256"}:
        return {**value, "file": str(folder.absolute() / str(value["file"]))}
    return value


def _plain_step(file: RecipeFile, index: int) -> Any:
    step = file.recipe.steps[index]
    folder = file.where("steps", index).file.parent
    params = {name: _pinned(value, folder) for name, value in step.params.items()}
    return {step.name: params} if params else step.name
