"""Which head of a model runs and which classes stay: what the recipe asks for, held against what the weights hold."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from yolodeploy.backend import Inspecting, ModelInfo, Params, problem_of
from yolodeploy.data import numbers_of
from yolodeploy.errors import EnvironmentProblem, PlanRefused
from yolodeploy.planning.facts import Loader
from yolodeploy.recipe import RecipeFile
from yolodeploy.system import quotable

_LISTED = 10  # names of classes in a message


def choose(file: RecipeFile, loader: Loader, facts: ModelInfo | None, params: Params) -> Params:
    """The parameters of the loading step, with the head and the classes that the recipe asks for.

    Classes are called as the model calls them. Raises PlanRefused if the plugin cannot choose or the
    weights lack something, and EnvironmentProblem if the plugin that would read the classes cannot run here.
    """
    model = file.recipe.model
    if model.branch and facts and model.branch not in facts.heads:
        raise PlanRefused(
            f"{file.where('model', 'head')}: {model.weights.name} has no {model.branch} head; it has "
            f"{' and '.join(facts.heads)}. Write `head: {facts.heads[0]}`, or remove it."
        )
    if facts:
        _refuse_other_fit(file, facts)
    if not model.classes:
        return params
    return params.model_copy(update={"classes": _kept(file, loader, facts)})


def _refuse_other_fit(file: RecipeFile, facts: ModelInfo) -> None:
    """Raise PlanRefused if the recipe asks for a way to fit images that the model would not get, or that hides objects."""
    wanted = file.recipe.model.preprocess
    if wanted is None or "fit" not in wanted.model_fields_set:
        return
    at = file.where("model", "preprocess", "fit")
    if wanted.fit == "crop" and facts.task != "classify":
        raise PlanRefused(
            f"{at}: `fit: crop` cuts off the sides of images, and a model for `{facts.task}` must see the objects there. "
            "Write center, top-left or stretch, as the model was trained."
        )
    if wanted.fit != facts.fit:
        raise PlanRefused(
            f"{at}: `fit: {wanted.fit}` is not available for a model for `{facts.task}`, whose images get `fit: {facts.fit}`. "
            "Write `fit: stretch` or `fit: top-left` if it was trained so, or remove `fit`."
        )


def stated(
    file: RecipeFile, loader: Loader, names: Callable[[], Sequence[str]], options: Params
) -> Params:
    """The parameters of the loading step that the recipe alone decides.

    `names` gives the classes of its data set, `options` what it gives the loader.

    Raises PlanRefused for what the plugin does not take.
    """
    model, (backend, step) = file.recipe.model, loader
    wanted: dict[str, object] = {
        "head": model.branch,
        "layout": model.layout,
        "kpt_shape": model.kpt_shape,
        "preprocess": model.preprocess,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    for name in [*wanted, *(["classes"] if model.classes else [])]:
        if name not in step.params.model_fields:
            key = "head" if name in ("layout", "kpt_shape") else name
            raise PlanRefused(
                f"{file.where('model', key)}: the {backend.NAME} plugin, which loads "
                f"`{model.weights.name}`, does not take `{name}`. Remove it."
            )
    if "names" in step.params.model_fields:
        wanted["names"] = tuple(names())
    given = {name: getattr(options, name) for name in options.model_fields_set}
    return step.params.model_validate({**given, **wanted})


def loaded(facts: ModelInfo, params: Params) -> ModelInfo:
    """What the loading step makes, with these parameters, of a model with these facts."""
    head, classes = getattr(params, "head", None), getattr(params, "classes", None)
    return replace(facts, head=head or facts.head, names=classes or facts.names)


def model_notes(facts: ModelInfo, model: ModelInfo) -> Iterator[str]:
    """Which head runs if the weights hold another, or if it needs no suppression, and which classes were kept."""
    others = [head for head in facts.heads if head != model.head]
    if others or model.head == "one-to-one":
        also = f"; the weights hold {' and '.join(others)}, too" if others else ""
        needs = "no" if model.head == "one-to-one" else "a"
        yield f"the {model.head} head runs, which needs {needs} non-maximum suppression{also}"
    if model.names != facts.names:
        count = f"{len(model.names)} of the model's {len(facts.names)}"
        yield f"the artifact has {count} classes: {_listed(model.names)}"


def _kept(file: RecipeFile, loader: Loader, facts: ModelInfo | None) -> tuple[str, ...]:
    """The model's names of the classes that the recipe asks for."""
    backend, at = loader[0], file.where("model", "classes")
    if facts is None:
        if isinstance(backend, Inspecting) and (problem := problem_of(backend)):
            raise EnvironmentProblem(
                f"{at}: `classes` are some of the model's. To read those, the {backend.NAME} backend must run "
                f"here: {problem}"
            )
        raise PlanRefused(
            f"{at}: the {backend.NAME} plugin does not say which classes a model has. Remove `classes`."
        )
    numbers: dict[int, str] = {}
    for index, name in enumerate(file.recipe.model.classes or ()):
        here = file.where("model", "classes", index)
        found = numbers_of(name, facts.names)
        if not found:
            raise PlanRefused(
                f"{here}: the model has no class `{quotable(name)}`.{_near(name, facts.names)} "
                f"It has {len(facts.names)}: {_listed(facts.names)}."
            )
        if len(found) > 1:
            raise PlanRefused(
                f"{here}: the model has {len(found)} classes called `{quotable(name)}`, so which to keep is not "
                "clear. Rename them in the checkpoint, or keep all."
            )
        if found[0] in numbers:
            raise PlanRefused(
                f"{here}: `{quotable(name)}` is the class `{quotable(numbers[found[0]])}`, which is kept already. "
                "Remove one."
            )
        numbers[found[0]] = name
    return tuple(facts.names[number] for number in numbers)


def _near(name: str, names: tuple[str, ...]) -> str:
    """The nearest names, in whichever case they are written."""
    spelled = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), spelled, n=3, cutoff=0.6)
    meant = " or ".join(f"`{quotable(spelled[word])}`" for word in near)
    return f" Perhaps you meant {meant}." if near else ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join([*map(quotable, names[:_LISTED]), *(["..."] if len(names) > _LISTED else [])])
