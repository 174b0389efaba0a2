"""What a recipe asks of a model, held against how much of the model is known."""

from __future__ import annotations

from collections.abc import Sequence

from yolodeploy.backend import ModelInfo, Registry
from yolodeploy.errors import PlanRefused
from yolodeploy.planning.resolve import ResolvedStep
from yolodeploy.recipe import RecipeFile
from yolodeploy.system import quotable


def refuse_unfit(
    file: RecipeFile, registry: Registry, resolved: Sequence[ResolvedStep], model: ModelInfo
) -> None:
    """Raise PlanRefused for a step that cannot work on the model that the first one loads."""
    layered = resolved[0][0].produces
    for step, params, at in resolved[1:]:
        if model.known == "outputs" and step.accepts == layered and not step.takes_onnx:
            raise PlanRefused(
                f"{at}: {_passed_through(file, registry, resolved, step.name, model)}"
            )
        if step.fits and (reason := step.fits(params, model)):
            raise PlanRefused(f"{at}: {reason}")


def _passed_through(
    file: RecipeFile,
    registry: Registry,
    resolved: Sequence[ResolvedStep],
    name: str,
    model: ModelInfo,
) -> str:
    """Why a step cannot work on a model of which only the outputs are known, with the way on."""
    obstacle = f": {model.obstacle} is no operation that can be changed" if model.obstacle else ""
    why = (
        f"`{name}` works on the layers of a model, and {quotable(file.recipe.model.weights.name)} can only be passed on "
        f"as it is{obstacle}."
    )
    layered = resolved[0][0].produces
    remaining = [step for step, _, _ in resolved[1:] if step.accepts == layered]
    if any(step.takes_onnx for step in remaining):
        return f"{why} Remove `{name}`."
    takers = sorted(
        backend.NAME
        for backend in registry.backends.values()
        if backend.DEVICES and any(step.takes_onnx for step in backend.STEPS)
    )
    where = (
        f"Choose a device of {' or '.join(takers)}, or"
        if takers
        else "No installed backend takes it:"
    )
    return f"{why} {where} export the model without that operation."
