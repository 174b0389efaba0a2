"""What a plan reads: weights and images by their digests, and whether they are still what was planned.

An id stands for the inputs as they were planned. So that no result of other inputs is kept under it, files
are read once more when a step is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from yolodeploy.backend import (
    ModelInfo,
    Params,
    PinnedFile,
    Quantize,
    misfit,
    verify_pinned,
    with_digests,
)
from yolodeploy.data import (
    Dataset,
    image_faults,
    load_view,
    read_class_names,
    same_name,
    survey_view,
)
from yolodeploy.errors import DataError, ModelError, PlanRefused
from yolodeploy.plan.facts import Loader, WeightsFacts
from yolodeploy.plan.plan import Plan, PlannedStep
from yolodeploy.plan.resolve import ResolvedStep
from yolodeploy.recipe import AllowedPaths, Position, RecipeFile, View
from yolodeploy.store import DIGESTS, FACTS
from yolodeploy.system import MODEL_BYTES, Console, Memo, StatCache, file_digest, shown

_AGAIN = "The result was not kept. Run again when nothing writes there any more."
_LABELLED = ("evaluation", "training")  # views whose labels are read
_Key = tuple[Path, View, int, AllowedPaths, str]


class Inputs:
    """Reads what recipes name, and what several share only once.

    `digests` remembers the digests of files, `facts` what weights say of their model.
    """

    def __init__(self, digests: StatCache, facts: WeightsFacts) -> None:
        self.digests, self.facts = digests, facts
        self._views: dict[_Key, tuple[Dataset, str]] = {}
        self._disjoint: set[tuple[str, str]] = set()  # digests of views without a common image
        self._decoded: dict[
            Path, str
        ] = {}  # what is wrong with each image that was looked at; "" for nothing
        self._used: dict[tuple[str, tuple[str, ...], tuple[int, ...]], str] = {}

    @classmethod
    def of_store(cls, store: Path) -> Self:
        """With what a store remembers of files."""
        return cls(StatCache(store / DIGESTS), WeightsFacts(Memo(store / FACTS)))

    def save(self) -> None:
        """Keep what was read for later runs."""
        self.digests.save()
        self.facts.save()

    def class_names(self, file: RecipeFile) -> tuple[str, ...]:
        """The classes of a recipe's data set, whatever its task; raises DataError."""
        data = file.recipe.data
        with _naming_data_set(file):
            return read_class_names(data.path, data.evaluation, file.allowed)

    def views(
        self, file: RecipeFile, resolved: Sequence[ResolvedStep], facts: ModelInfo | None
    ) -> dict[str, Dataset]:
        """The data views of a recipe, with labels of the task that the model does.

        Raises PlanRefused if it lacks one that a step needs, or DataError.
        """
        wanted, task = _wanted_views(file, resolved), task_in(facts)
        with _naming_data_set(file):
            views = {name: self._view(file, view, task)[0] for name, view in wanted.items()}
        for step in resolved:
            _require_usable(file, views, step)
        return views

    def as_trained(
        self, file: RecipeFile, views: Mapping[str, Dataset], facts: ModelInfo, model: ModelInfo
    ) -> dict[str, Dataset]:
        """The views with the classes that the `model` has, which is loaded from weights with these facts."""
        with _naming_data_set(file):
            used = {
                name: view.for_model(facts.names, facts.kpt_shape) for name, view in views.items()
            }
        if facts.single_cls:
            used = {name: view.as_one_class(facts.names[0]) for name, view in used.items()}
        if file.recipe.model.classes is None:
            return used
        try:
            used = {name: view.only(model.names, facts.names) for name, view in used.items()}
        except DataError as error:
            raise DataError(f"{file.where('data', 'path')}: {error}") from None
        for name in _LABELLED:
            if name in used and used[name].counts.left_out and not used[name].counts.objects:
                raise DataError(
                    f"{file.where('data', name)}: no {name} image shows one of the kept classes. Name others, or "
                    "keep classes that they show."
                )
        return used

    def view_digests(self, file: RecipeFile, views: Mapping[str, Dataset]) -> dict[str, str]:
        """Digests of views; raises DataError if an evaluation image is also in another view."""
        pairs = {
            name: self._view(file, getattr(file.recipe.data, name), view.task)
            for name, view in views.items()
        }
        for name, pair in pairs.items():
            if name != "evaluation":
                self._refuse_overlap(file, name, pair, pairs["evaluation"])
        return {name: self._digest_as(views[name], *pair) for name, pair in pairs.items()}

    def survey(self, file: RecipeFile, facts: ModelInfo | None, console: Console) -> list[str]:
        """What is wrong with the images and labels of a recipe's views, one line for each fault.

        Looks at every image and label; raises DataError if the data set cannot be read at all.
        """
        data, faults, images = file.recipe.data, dict[str, None](), dict[Path, None]()
        for view in filter(None, (data.evaluation, data.calibration, data.training)):
            task = task_in(facts)
            dataset, found = survey_view(data.path, view, data.seed, file.allowed, task)
            faults.update(dict.fromkeys(found))
            images.update(dict.fromkeys(dataset.images))
        if new := [image for image in images if image not in self._decoded]:
            with console.task(f"look at {len(new)} images") as report:
                self._decoded.update(dict.fromkeys(new, "") | image_faults(new, report))
        faults.update(dict.fromkeys(filter(None, (self._decoded[image] for image in images))))
        return list(faults)

    def weights_digest(self, file: RecipeFile) -> str:
        """Digest of the weights file; raises ModelError if it cannot be read or is not the pinned one."""
        model, at = file.recipe.model, file.where("model", "weights")
        if not os.path.isfile(model.weights):  # noqa: PTH113 - unlike Path's, it takes any text
            folder, there = os.path.isdir(model.weights), os.path.exists(model.weights)  # noqa: PTH110, PTH112
            problem = "is a folder" if folder else "is a pipe or a device"
            problem = problem if there else "does not exist"
            raise ModelError(f"{at}: the weights file {shown(model.weights)} {problem}")
        try:
            digest = self.digests.digest(model.weights)
        except OSError as error:
            text = f"{at}: {shown(model.weights)} cannot be read: {error.strerror}"
            raise ModelError(text) from None
        if model.sha256 not in (None, digest):
            raise ModelError(
                f"{file.where('model', 'sha256')}: {shown(model.weights)} has sha256 {digest}, not the pinned "
                "one. Restore the file, or change the pin if the new weights are meant."
            )
        return digest

    def _digest_as(self, used: Dataset, read: Dataset, digest: str) -> str:
        """The digest of a view as it is used: with its classes taken for one, or some left out, it is another."""
        if (used.names, used.kept) == (read.names, read.kept):
            return digest
        key = digest, used.names, used.kept
        if key not in self._used:
            self._used[key] = used.digest(self.digests)
        return self._used[key]

    def verify_pinned(
        self,
        file: RecipeFile,
        loader: Loader | None,
        facts: ModelInfo | None,
        params: Params,
        at: Position,
    ) -> None:
        """Raise ModelError if a pinned file is missing or another one, or weights that cannot be used.

        Pinned weights must be of a model with the classes, channels and strides of `facts`, as a teacher is; `loader`
        reads them, None if nothing may.
        """
        verify_pinned(params, at, self.digests, file.allowed)
        for name in type(params).model_fields:
            pinned = getattr(params, name)
            if not isinstance(pinned, PinnedFile) or loader is None:
                continue
            if pinned.file.suffix.lower() != loader[1].accepts:
                continue
            theirs = self.facts.of(loader, pinned.file, pinned.sha256, at)
            if facts is None or theirs is None:
                continue
            if problem := misfit(f"{name} {pinned.file.name}", theirs, facts):
                raise ModelError(f"{at}: {problem}")

    def _view(self, file: RecipeFile, view: View, task: str) -> tuple[Dataset, str]:
        data = file.recipe.data
        key = (data.path, view, data.seed, file.allowed, task)
        if key not in self._views:
            found = load_view(data.path, view, data.seed, file.allowed, task)
            self._views[key] = found, found.digest(self.digests)
        return self._views[key]

    def _refuse_overlap(
        self, file: RecipeFile, name: str, used: tuple[Dataset, str], measured: tuple[Dataset, str]
    ) -> None:
        if (pair := (used[1], measured[1])) in self._disjoint:
            return
        evaluated = {self.digests.digest(image) for image in measured[0].images}
        for image in used[0].images:
            if self.digests.digest(image) in evaluated:
                raise DataError(
                    f"{file.where('data', name)}: {shown(image)} is both a {name} and an evaluation "
                    "image, so the measured accuracy would flatter. Choose another split or fewer images."
                )
        self._disjoint.add(pair)


def task_in(facts: ModelInfo | None) -> str:
    """What a model does: if nothing reads the weights before they are loaded, it is taken for a detector."""
    return facts.task if facts else "detect"


@contextmanager
def _naming_data_set(file: RecipeFile) -> Iterator[None]:
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
    read = {name for name in _LABELLED if name != "training" or not learning}
    read |= {"training" for each in learning if each.step.labels_for(each.params)}
    for name in _LABELLED:
        if name in read and name in plan.views and (text := plan.views[name].missing_labels):
            found[f"{shown(data.path)}, `{getattr(data, name).split}`: {text}"] = None
    return list(found)


def _wanted_views(file: RecipeFile, resolved: Sequence[ResolvedStep]) -> dict[str, View]:
    names = ("evaluation", "calibration", "training")
    named: dict[str, View | None] = {name: getattr(file.recipe.data, name) for name in names}
    for step, params, at in resolved:
        for name in step.needs(params):
            if named.get(name) is None:
                raise PlanRefused(
                    f"{at}: `{step.name}` needs {name} images. Add `data: {name}:` to the recipe."
                )
    return {name: view for name, view in named.items() if view}


def _require_usable(file: RecipeFile, views: Mapping[str, Dataset], resolved: ResolvedStep) -> None:
    """Raise DataError if a step has too few images to calibrate with, or none with labels to train on."""
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


def calibration_count(params: Params) -> int | None:
    """How many calibration images a step asks for; None for all."""
    return params.subset if isinstance(params, Quantize) else None


def require_unchanged(plan: Plan, planned: PlannedStep) -> None:
    """Raise ModelError or DataError if something that a step reads changed since it was planned."""
    if planned.loads_weights:
        _require_weights(plan)
        found = with_digests(planned.params, planned.at, forgetful(), plan.file.allowed)
        if found != planned.params:
            raise ModelError(
                f"{planned.at}: the modules that `loader` names changed meanwhile. {_AGAIN}"
            )
    verify_pinned(planned.params, planned.at, forgetful(), plan.file.allowed)
    require_views(plan, planned.data)


def require_views(plan: Plan, names: Iterable[str], cache: StatCache | None = None) -> None:
    """Raise DataError if images or labels of a view changed; `cache` knows files that were just read."""
    for name in names:
        if plan.views[name].digest(cache or forgetful()) != plan.view_digests[name]:
            at = plan.file.where("data", name)
            raise DataError(f"{at}: {name} images or labels changed meanwhile. {_AGAIN}")


def _require_weights(plan: Plan) -> None:
    try:
        same = file_digest(plan.weights, MODEL_BYTES) == plan.weights_digest
    except OSError:
        same = False
    if not same:
        at = plan.file.where("model", "weights")
        raise ModelError(f"{at}: {shown(plan.weights)} changed meanwhile. {_AGAIN}")


def forgetful() -> StatCache:
    """An empty cache that is not saved."""
    return StatCache(Path(os.devnull))


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
