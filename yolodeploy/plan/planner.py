"""Recipe -> Plan: resolve every step, refuse what cannot work, and give each step its id.

Planning imports no toolchain, except to read weights that it has not seen before: see facts.py. An id is the digest of everything
that determines a step's bytes, the id of its input included, so the last id stands for all steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Self

from yolodeploy.backend import Backend, Registry, Step, Target, load_registry
from yolodeploy.plan.facts import chosen_imgsz
from yolodeploy.plan.inputs import Inputs, check_names
from yolodeploy.plan.known_parts import refuse_unfit
from yolodeploy.plan.model_choice import choose, loaded, stated
from yolodeploy.plan.plan import Plan, PlannedStep, described_target, step_versions
from yolodeploy.plan.resolve import (
    ResolvedStep,
    find_export,
    find_target,
    refuse_unknown_checks,
    resolve_steps,
)
from yolodeploy.recipe import RecipeFile, load_recipe
from yolodeploy.system import Console, ImageShape, digest_of


def plan_recipe(recipe: Path, store: Path, allowed: Iterable[Path] = ()) -> Plan:
    """Read a recipe and plan it with the installed plugins; `store` is the store's folder."""
    with Planner.of_store(store, allowed) as planner:
        return planner.plan(recipe)


class Planner:
    """Plans recipes with the same plugins, and reads what they share only once.

    `allowed` are files and folders outside their projects that the recipes may read.
    """

    def __init__(self, registry: Registry, inputs: Inputs, allowed: Iterable[Path] = ()) -> None:
        self._registry, self._inputs, self._allowed = registry, inputs, tuple(allowed)

    @classmethod
    def of_store(cls, store: Path, allowed: Iterable[Path] = ()) -> Self:
        """A planner with the installed plugins, and what a store remembers of files."""
        return cls(load_registry(), Inputs.of_store(store), allowed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inputs.save()

    def plan(self, recipe: Path) -> Plan:
        """Read and plan a recipe; raises RecipeError, PlanRefused, ModelError or DataError."""
        return make_plan(load_recipe(recipe, self._allowed), self._registry, self._inputs)

    def survey(self, recipe: Path, console: Console) -> list[str]:
        """Everything that is wrong with the images and labels of a recipe; looks at every one of them."""
        return self._inputs.survey(load_recipe(recipe, self._allowed), console)


def make_plan(file: RecipeFile, registry: Registry, inputs: Inputs) -> Plan:
    """Resolve and check a recipe; raises PlanRefused, RecipeError, ModelError or DataError."""
    backend, target = find_target(file, registry)
    resolved = resolve_steps(file, registry, backend, target)
    export = find_export(file, backend, resolved)
    refuse_unknown_checks(file, backend, resolved)
    views = inputs.views(file, resolved)
    weights_digest = inputs.weights_digest(file)
    loader = _owned(registry, resolved[0][0])
    weights_at = file.where("model", "weights")
    step, _, at = resolved[0]
    resolved[0] = step, stated(file, loader, views["evaluation"].names), at
    facts = inputs.facts.of(
        loader, file.recipe.model.weights, weights_digest, weights_at, resolved[0][1]
    )
    imgsz = chosen_imgsz(file, loader, facts)
    step, params, at = resolved[0]
    resolved[0] = step, choose(file, loader, facts, params), at
    model = loaded(facts, resolved[0][1]) if facts else None
    if facts and model:
        refuse_unfit(file, registry, resolved, model)
        views = inputs.as_trained(file, views, facts, model)
    view_digests = inputs.view_digests(file, views)
    for _, params, at in resolved:
        inputs.verify_pinned(file, loader, model, params, at)
    plan_step = partial(_plan_step, file, registry, target, imgsz, view_digests)
    steps: list[PlannedStep] = []
    for each in resolved:
        steps.append(plan_step(each, steps[-1].id if steps else weights_digest))
    step, params, at = resolved[export]
    float_export = step, step.reference(params) if step.reference else params, at
    floats = {
        index: plan_step(float_export, model.id)
        for index, model in enumerate(steps[:export])
        if model.step.produces == step.accepts
    }
    digests = weights_digest, view_digests
    plan = Plan(file, backend, target, tuple(steps), export, floats, views, *digests, imgsz, facts)
    if model:
        check_names(model.names, plan)
    return plan


def _owned(registry: Registry, step: Step) -> tuple[Backend, Step]:
    return next(b for b in registry.backends.values() if step in b.STEPS), step


def _plan_step(
    file: RecipeFile,
    registry: Registry,
    target: Target,
    imgsz: ImageShape,
    view_digests: dict[str, str],
    resolved: ResolvedStep,
    input_id: str,
) -> PlannedStep:
    """Give a step its id."""
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
            "data": {name: view_digests[name] for name in step.needs(params)},
            "versions": step_versions(backend, step, params),
        }
    )
    return PlannedStep(backend, step, params, id_, at)
