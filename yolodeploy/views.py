"""The images that a plan looks at: named in the recipe, enough of them, and none of them twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolodeploy.backend import Step
from yolodeploy.dataset import Dataset, load_view
from yolodeploy.digest import StatCache
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe import RecipeFile, View
from yolodeploy.transforms import Params, Quantize
from yolodeploy.yamlfile import Position, shown

Link = tuple[Step, Params, Position]


def load_views(file: RecipeFile, chain: Sequence[Link]) -> dict[str, Dataset]:
    """The data views of a recipe; raises PlanRefused for one that a step lacks, or DataError."""
    data = file.recipe.data
    wanted: dict[str, View | None] = {
        "evaluation": data.evaluation,
        "calibration": data.calibration,
        "training": data.training,
    }
    for step, params, at in chain:
        for name in step.needs(params):
            if wanted.get(name) is None:
                raise PlanRefused(
                    f"{at}: `{step.name}` needs {name} images. Add `data: {name}:` to the recipe."
                )
    try:
        views = {
            name: load_view(data.path, view, data.seed, file.trust)
            for name, view in wanted.items()
            if view
        }
    except DataError as fault:
        raise DataError(
            f"{file.where('data', 'path')}: the data set cannot be used.\n{fault}"
        ) from None
    _check_calibration(views, chain)
    _check_training(file, views, chain)
    return views


def _check_calibration(views: Mapping[str, Dataset], chain: Sequence[Link]) -> None:
    for step, params, at in chain:
        if "calibration" in step.needs(params):
            try:
                views["calibration"].to_calibrate(calibration_count(params))
            except DataError as fault:
                raise DataError(f"{at}: {fault}") from None


def _check_training(file: RecipeFile, views: Mapping[str, Dataset], chain: Sequence[Link]) -> None:
    for step, params, at in chain:
        if "training" in step.needs(params) and not views["training"].labelled:
            raise DataError(
                f"{at}: `{step.name}` learns from labels, and none of the {len(views['training'])} images "
                f"of `data: training:` ({file.where('data', 'training')}) has a label file."
            )


def calibration_count(params: Params) -> int | None:
    """How many of the calibration images a step asks for; None for all."""
    return params.subset if isinstance(params, Quantize) else None


def refuse_overlap(file: RecipeFile, views: Mapping[str, Dataset], cache: StatCache) -> None:
    """Raise DataError for an image that is calibrated or trained on, and measured on as well."""
    seen = {name: view for name, view in views.items() if name != "evaluation"}
    measured = {cache.digest(image) for image in views["evaluation"].images} if seen else set()
    for name, view in seen.items():
        for image in view.images:
            if cache.digest(image) in measured:
                raise DataError(
                    f"{file.where('data', name)}: {shown(image)} is both a {name} and an evaluation "
                    "image, so the measured accuracy would flatter. Choose another split or fewer images."
                )
