"""Recipe -> Plan: resolve every step, refuse what cannot work, and give each step its id.

Planning imports no toolchain, except to read weights that it has not seen before: see facts.py. An id is the digest of everything
that determines a step's bytes, the id of its input included, so the last id stands for all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from yolodeploy.backend import Backend, ModelInfo, Registry, Step, Target, load_registry
from yolodeploy.planning.facts import Loader, chosen_imgsz
from yolodeploy.planning.inputs import Inputs
from yolodeploy.planning.known_parts import refuse_unfit
from yolodeploy.planning.loading import find_loader, reading, with_code
from yolodeploy.planning.model_choice import choose, loaded, stated
from yolodeploy.planning.plan import Plan, PlannedStep, described_target, step_versions
from yolodeploy.planning.resolve import (
    ResolvedStep,
    find_export,
    find_target,
    refuse_checks_of_other_tasks,
    refuse_unknown_checks,
    resolve_steps,
)
from yolodeploy.planning.views import check_names, read_digests
from yolodeploy.recipe import RecipeFile, load_recipe
from yolodeploy.system import Console, ImageShape, digest_of

PlanStep = Callable[[ResolvedStep, str], PlannedStep]


def plan_recipe(
    recipe: Path, store: Path, allowed: Iterable[Path] = (), *, trusted: bool = False
) -> Plan:
    """Read a recipe and plan it with the installed plugins; `store` is the store's folder.

    `trusted` says that the weights may be executed, by the loader that the recipe names.
    """
    with Planner.of_store(store, allowed, trusted=trusted) as planner:
        return planner.plan(recipe)


class Planner:
    """Plans recipes with the same plugins, and reads what they share only once.

    `allowed` are files and folders outside their projects that the recipes may read; `trusted` says that their
    weights may be executed. `elsewhere` plans a recipe in another process, with the same store, if that must read weights
    which nobody has read yet.
    """

    def __init__(
        self,
        registry: Registry,
        inputs: Inputs,
        allowed: Iterable[Path] = (),
        *,
        trusted: bool = False,
        elsewhere: Callable[[Path], None] | None = None,
    ) -> None:
        self._registry, self._inputs, self._allowed = registry, inputs, tuple(allowed)
        self._trusted, self._elsewhere = trusted, elsewhere

    @classmethod
    def of_store(
        cls,
        store: Path,
        allowed: Iterable[Path] = (),
        *,
        trusted: bool = False,
        elsewhere: Callable[[Path], None] | None = None,
    ) -> Self:
        """A planner with the installed plugins, and what a store remembers of files."""
        inputs = Inputs.of_store(store)
        return cls(load_registry(), inputs, allowed, trusted=trusted, elsewhere=elsewhere)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inputs.save()

    def plan(self, recipe: Path) -> Plan:
        """Read and plan a recipe; raises RecipeError, PlanRefused, ModelError or DataError."""
        return self.plan_file(load_recipe(recipe, self._allowed))

    def plan_file(self, file: RecipeFile) -> Plan:
        """Plan a recipe that was read; raises as `plan` does."""
        self._inputs.facts.elsewhere = partial(self._ask, file.path) if self._elsewhere else None
        try:
            return make_plan(file, self._registry, self._inputs, trusted=self._trusted)
        finally:
            self._inputs.facts.elsewhere = None

    def _ask(self, recipe: Path) -> None:
        """Let another process read what nobody has read yet."""
        if self._elsewhere:
            self._inputs.save()
            self._elsewhere(recipe)
            self._inputs.reload()

    def survey(self, recipe: Path, console: Console) -> list[str]:
        """Everything that is wrong with the images and labels of a recipe; looks at every one of them."""
        file = load_recipe(recipe, self._allowed)
        backend, _ = find_target(file, self._registry)
        first = find_loader(file, self._registry, backend, trusted=self._trusted)
        loader, digest = _owned(self._registry, first[0]), self._inputs.weights_digest(file)
        _, facts = _inspected(file, self._inputs, loader, first, digest)
        return self._inputs.survey(file, facts, console)


def make_plan(
    file: RecipeFile, registry: Registry, inputs: Inputs, *, trusted: bool = False
) -> Plan:
    """Resolve and check a recipe; raises PlanRefused, RecipeError, ModelError or DataError.

    `trusted` says that its weights may be executed, by the loader that it names.
    """
    backend, target = find_target(file, registry)
    first = find_loader(file, registry, backend, trusted=trusted)
    resolved = resolve_steps(file, registry, backend, target, first)
    export = find_export(file, backend, resolved)
    refuse_unknown_checks(file, backend, resolved)
    weights_digest = inputs.weights_digest(file)
    loader = _owned(registry, first[0])
    resolved[0], facts = _inspected(file, inputs, loader, first, weights_digest)
    imgsz = chosen_imgsz(file, loader, facts)
    if facts:
        refuse_checks_of_other_tasks(file, facts.task)
    views = inputs.views(file, resolved, facts)
    step, params, at = resolved[0]
    resolved[0] = step, choose(file, loader, facts, params), at
    model = loaded(facts, resolved[0][1]) if facts else None
    if facts and model:
        refuse_unfit(file, registry, resolved, model)
        views = inputs.as_trained(file, views, facts, model)
    view_digests = inputs.view_digests(file, views)
    reader = _reader(registry, backend, loader)
    for _, params, at in resolved:
        inputs.verify_pinned(file, reader, model, params, at)
    read = read_digests(views, view_digests)
    plan_step = partial(_plan_step, file, registry, target, imgsz, read)
    steps = list[PlannedStep]()
    for each in resolved:
        steps.append(plan_step(each, steps[-1].id if steps else weights_digest))
    floats = _float_exports(resolved[export], steps[:export], plan_step)
    digests = weights_digest, view_digests
    plan = Plan(file, backend, target, tuple(steps), export, floats, views, *digests, imgsz, facts)
    if model:
        check_names(model.names, plan)
    return plan


def _float_exports(
    export: ResolvedStep, models: Sequence[PlannedStep], plan_step: PlanStep
) -> Mapping[int, PlannedStep]:
    """The export in floating point of every model that could be exported, by the number of its step."""
    step, params, at = export
    exported = step, step.reference(params) if step.reference else params, at
    return {
        index: plan_step(exported, model.id)
        for index, model in enumerate(models)
        if model.step.produces == step.accepts
    }


def _inspected(
    file: RecipeFile, inputs: Inputs, loader: Loader, first: ResolvedStep, weights_digest: str
) -> tuple[ResolvedStep, ModelInfo | None]:
    """The loading step with what the recipe states of the model, and what the weights say."""
    step, params, at = first
    params = with_code(file, params, inputs.digests)
    params = stated(file, loader, partial(inputs.class_names, file), params)
    weights, weights_at = file.recipe.model.weights, file.where("model", "weights")
    facts = inputs.facts.of(loader, weights, weights_digest, weights_at, params)
    return (step, params, at), facts


def _owned(registry: Registry, step: Step) -> Loader:
    return next(b for b in registry.backends.values() if step in b.STEPS), step


def _reader(registry: Registry, backend: Backend, loader: Loader) -> Loader | None:
    """What reads other weights than the recipe's, which nobody said to trust."""
    if not loader[1].executes:
        return loader
    step = reading((step for _, step in registry.offered(backend)), loader[1].accepts)
    return _owned(registry, step) if step else None


def _plan_step(
    file: RecipeFile,
    registry: Registry,
    target: Target,
    imgsz: ImageShape,
    read: Mapping[str, str],
    resolved: ResolvedStep,
    input_id: str,
) -> PlannedStep:
    """Give a step its id; `read` has what it depends on of each view, see `read_digests`."""
    step, params, at = resolved
    backend, _ = _owned(registry, step)
    id_ = digest_of(
        {
            "step": [backend.NAME, step.name, step.revision],
            "params": params.model_dump(mode="json"),
            "input": input_id,
            "imgsz": imgsz.plain,
            "seed": file.recipe.seed,
            "target": described_target(target) if backend.DEVICES else None,
            "data": {name: read[name] for name in step.needs(params)},
            "versions": step_versions(backend, step, params),
        }
    )
    return PlannedStep(backend, step, params, id_, at)
