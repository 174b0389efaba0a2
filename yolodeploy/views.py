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
    }
    for step, params, at in chain:
        for name in step.needs(params):
            if wanted.get(name) is None:
                raise PlanRefused(
                    f"{at}: `{step.name}` needs {name} images. Add `data: {name}:` to the recipe."
                )
    try:
        views = {
            name: load_view(data.path, view, data.seed) for name, view in wanted.items() if view
        }
    except DataError as fault:
        raise DataError(
            f"{file.where('data', 'path')}: the data set cannot be used.\n{fault}"
        ) from None
    _check_calibration(views, chain)
    return views


def _check_calibration(views: Mapping[str, Dataset], chain: Sequence[Link]) -> None:
    for step, params, at in chain:
        if "calibration" in step.needs(params):
            try:
                views["calibration"].to_calibrate(calibration_count(params))
            except DataError as fault:
                raise DataError(f"{at}: {fault}") from None


def calibration_count(params: Params) -> int | None:
    """How many of the calibration images a step asks for; None for all."""
    return params.subset if isinstance(params, Quantize) else None


def refuse_overlap(file: RecipeFile, views: Mapping[str, Dataset], cache: StatCache) -> None:
    """Raise DataError for an image that is both calibrated on and measured on."""
    measured = {cache.digest(image) for image in views["evaluation"].images}
    for image in views["calibration"].images:
        if cache.digest(image) in measured:
            raise DataError(
                f"{file.where('data', 'calibration')}: {shown(image)} is both a calibration and an evaluation "
                "image, so the measured accuracy would flatter. Choose another split or fewer images."
            )
