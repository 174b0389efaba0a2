"""Which images and labels a recipe needs, and whether they can be used for its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from yolodeploy.backend import ModelInfo, Params, Quantize
from yolodeploy.data import Dataset, same_name
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.planning.plan import Plan
from yolodeploy.planning.resolve import ResolvedStep
from yolodeploy.recipe import RecipeFile, View
from yolodeploy.system import digest_of, shown

LABELLED = ("evaluation", "training")  # views whose labels are read


def task_in(facts: ModelInfo | None) -> str:
    """What a model does: if nothing reads the weights before they are loaded, it is taken for a detector."""
    return facts.task if facts else "detect"


@contextmanager
def naming_data_set(file: RecipeFile) -> Iterator[None]:
    """Say of a DataError where the recipe names the data set."""
    try:
        yield
    except DataError as error:
        at = file.where("data", "path")
        raise DataError(f"{at}: the data set cannot be used.\n{error}") from None


def label_warnings(plan: Plan) -> list[str]:
    """What to say of views whose labels matter and most of whose images have none."""
    data, found = plan.file.recipe.data, dict[str, None]()
    learning = [step for step in plan.steps if "training" in step.data]
    read = {name for name in LABELLED if name != "training" or not learning}
    read |= {"training" for each in learning if each.step.labels_for(each.params)}
    for name in LABELLED:
        if name in read and name in plan.views and (text := plan.views[name].missing_labels):
            found[f"{shown(data.path)}, `{getattr(data, name).split}`: {text}"] = None
    return list(found)


def wanted_views(file: RecipeFile, resolved: Sequence[ResolvedStep]) -> dict[str, View]:
    """The views that a recipe names; raises PlanRefused if it lacks one that a step needs."""
    names = ("evaluation", "calibration", "training")
    named: dict[str, View | None] = {name: getattr(file.recipe.data, name) for name in names}
    for step, params, at in resolved:
        for name in step.needs(params):
            if named.get(name) is None:
                raise PlanRefused(
                    f"{at}: `{step.name}` needs {name} images. Add `data: {name}:` to the recipe."
                )
    return {name: view for name, view in named.items() if view}


def require_usable(file: RecipeFile, views: Mapping[str, Dataset], resolved: ResolvedStep) -> None:
    """Raise DataError if a step has too few images to calibrate with, or no labels that it can train on."""
    step, params, at = resolved
    if "calibration" in step.needs(params):
        try:
            views["calibration"].to_calibrate(calibration_count(params))
        except DataError as error:
            raise DataError(f"{at}: {error}") from None
    purpose = step.labels_for(params) if "training" in step.needs(params) else None
    if purpose and not views["training"].labelled:
        raise DataError(
            f"{at}: `{step.name}` {purpose}, and none of the {len(views['training'])} images "
            f"of `data: training:` ({file.where('data', 'training')}) has a label file. "
            f"{views['training'].missing_labels}"
        )
    if purpose and (reason := step.fits_labels(params, views["training"])):
        raise DataError(f"{at}: {reason}")


def read_digests(views: Mapping[str, Dataset], digests: Mapping[str, str]) -> dict[str, str]:
    """What a step that reads a view depends on, by the name of the view, from their `digests`.

    Of training images of poses also which keypoint each becomes in a mirrored image: nothing else reads that.
    """
    found, training = dict(digests), views.get("training")
    if training and training.task == "pose" and training.keypoints and training.keypoints.flip:
        found["training"] = digest_of(
            {"view": digests["training"], "flip": list(training.keypoints.flip)}
        )
    return found


def calibration_count(params: Params) -> int | None:
    """How many calibration images a step asks for; None for all."""
    return params.subset if isinstance(params, Quantize) else None


def check_names(names: tuple[str, ...], plan: Plan) -> None:
    """Raise DataError if the classes of the data set are not the model's.

    A data set that gives only their number has the model's names.
    """
    view = plan.views["evaluation"]
    ours = view.names
    at = plan.file.where("data", "path")
    remedy = "Use the data.yaml that the model was trained with."
    if len(ours) != len(names):
        listed = ", ".join(names if len(names) <= 5 else (*names[:5], "..."))
        classes = f"{len(ours)} class{'es' * (len(ours) != 1)}"
        raise DataError(
            f"{at}: the data set names {classes}, the model {len(names)} ({listed}). {remedy}"
        )
    for index, (our, their) in enumerate(zip(ours, names, strict=True)):
        if view.named and not same_name(our, their):
            raise DataError(
                f"{at}: class {index} is `{our}` in the data set but `{their}` in the model. {remedy}"
            )
