"""What a search needs before anything runs: the plan, the space, where it begins; and everything that can be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from yolodeploy.backend import load_registry
from yolodeploy.deployment import Request
from yolodeploy.errors import PlanRefused, RecipeError, YolodeployError
from yolodeploy.hosts import Host
from yolodeploy.planning import Plan, Planner
from yolodeploy.recipe import (
    Document,
    Position,
    RecipeFile,
    Search,
    SearchStep,
    allowed_paths,
    describe_errors,
    load_yaml,
)
from yolodeploy.store import Store
from yolodeploy.system import Console, digest_of, shown
from yolodeploy.trials.files import Half, TrialFiles, halves
from yolodeploy.trials.journal import about_search
from yolodeploy.trials.objectives import Objective, require_measurable, wanted
from yolodeploy.trials.space import Overlay, Place, Point, Space, point_of
from yolodeploy.trials.stages import reason_of
from yolodeploy.trials.starts import starts

_USUAL_TRIALS = 40
_MANY = 200  # values, which are planned in a fraction of a second
_TRIES = 24  # completions of a place's value, one of which must be a recipe that can be planned


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
