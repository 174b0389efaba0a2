"""Which plugin loads the weights: the one that the recipe names, else the first that reads them and executes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from yolodeploy.backend import Backend, Params, Registry, Step, loader_options, with_digests
from yolodeploy.errors import PlanRefused, RecipeError
from yolodeploy.planning.resolve import ResolvedStep
from yolodeploy.recipe import LoaderRequest, RecipeFile, describe_errors, suggestion
from yolodeploy.system import StatCache, quotable


def find_loader(
    file: RecipeFile, registry: Registry, backend: Backend, *, trusted: bool
) -> ResolvedStep:
    """The step that loads the weights, with the options that the recipe gives it.

    `trusted` says that whoever runs the command trusts the weights, so that a step may execute them. Raises
    PlanRefused if none loads them, or if the one that does would execute them and may not.
    """
    model, at = file.recipe.model, file.where("model", "weights")
    suffix = model.weights.suffix.lower()
    offered = [step for _, step in registry.offered(backend)]
    if model.loader is None:
        step = reading(offered, suffix)
        if step is None:
            raise PlanRefused(
                f"{at}: no installed backend loads `{quotable(model.weights.name)}`. Loadable: {_suffixes(offered)}."
            )
        return step, step.params(), at
    step = _named(file, registry, backend, suffix, model.loader)
    if step.executes and not trusted:
        raise PlanRefused(
            f"{file.where('model', 'loader')}: `loader: {model.loader.name}` executes the weights file and the modules "
            "that it names, with all your rights: one from a stranger could read, change and send whatever you can. "
            f"If you trust where {quotable(model.weights.name)} comes from, add: --trust-weights"
        )
    return step, _options(file, model.loader, step), at


def reading(offered: Iterable[Step], suffix: str) -> Step | None:
    """The step that loads files of a suffix and executes nothing in them."""
    return next((step for step in offered if step.accepts == suffix and not step.executes), None)


def _named(
    file: RecipeFile, registry: Registry, backend: Backend, suffix: str, request: LoaderRequest
) -> Step:
    """The loading step of the plugin that the recipe names."""
    at, found = file.where("model", "loader"), dict[str, list[Step]]()
    for owner, step in registry.offered(backend):
        if step.accepts.startswith("."):
            found.setdefault(owner.NAME, []).append(step)
    if request.name not in found and request.name in registry.broken:
        raise PlanRefused(f"{at}: plugin `{request.name}` {registry.broken[request.name]}.")
    if request.name not in found:
        raise PlanRefused(
            f"{at}: no installed plugin `{quotable(request.name)}` loads weights.{suggestion(request.name, found)}"
        )
    steps = found[request.name]
    fitting = next((step for step in steps if step.accepts == suffix), None)
    if fitting is None:
        raise PlanRefused(
            f"{at}: the {request.name} plugin does not load `{quotable(file.recipe.model.weights.name)}`. Loadable: "
            f"{_suffixes(steps)}."
        )
    return fitting


def _suffixes(steps: Iterable[Step]) -> str:
    known = {step.accepts for step in steps if step.accepts.startswith(".") and not step.executes}
    known = known or {step.accepts for step in steps}
    return ", ".join(sorted(known)) or "nothing"


def _options(file: RecipeFile, request: LoaderRequest, step: Step) -> Params:
    """The parameters of a loading step that the recipe gives beside the loader's name."""
    prefix, known = ("model", "loader", request.name), loader_options(step.params)
    values: dict[str, Any] = {}
    for name, value in request.params.items():
        at = file.where(*prefix, name)
        if name not in known:
            allowed = suggestion(name, known) or " It has none."
            raise RecipeError(
                f"{at}: `loader: {request.name}` has no option `{quotable(name)}`.{allowed}"
            )
        values[name] = value
        if known[name] and isinstance(value, str) and "\0" not in value:
            values[name] = str(at.file.parent / value)  # as it is written in that recipe
    try:
        return step.params.model_validate(values)
    except ValidationError as error:
        raise RecipeError(describe_errors(error, file.document, step.params, prefix)) from None


def with_code(file: RecipeFile, options: Params, cache: StatCache) -> Params:
    """The options of the loader with the digests of the modules that they name."""
    request = file.recipe.model.loader
    at = file.where("model", "loader", request.name) if request else file.where("model")
    return with_digests(options, at, cache, file.allowed)
