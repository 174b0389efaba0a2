"""What a plan reads: weights and images by their digests, and whether they are still what was planned.

An id stands for the inputs as they were planned. So that no result of other inputs is kept under it, files
are read once more when a step is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from yolodeploy.backend import (
    ModelInfo,
    Params,
    PinnedFile,
    misfit,
    verify_pinned,
    with_digests,
)
from yolodeploy.data import (
    Dataset,
    image_faults,
    load_view,
    read_class_names,
    survey_view,
)
from yolodeploy.errors import DataError, ModelError
from yolodeploy.planning.facts import Loader, WeightsFacts
from yolodeploy.planning.plan import Plan, PlannedStep
from yolodeploy.planning.resolve import ResolvedStep
from yolodeploy.planning.views import (
    LABELLED,
    naming_data_set,
    require_usable,
    task_in,
    wanted_views,
)
from yolodeploy.recipe import AllowedPaths, Position, RecipeFile, View
from yolodeploy.store import DIGESTS, FACTS
from yolodeploy.system import MODEL_BYTES, Console, Memo, StatCache, file_digest, shown

_AGAIN = "The result was not kept. Run again when nothing writes there any more."
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

    def reload(self) -> None:
        """Take over what another process has read and kept meanwhile."""
        self.digests.reload()
        self.facts.reload()

    def class_names(self, file: RecipeFile) -> tuple[str, ...]:
        """The classes of a recipe's data set, whatever its task; raises DataError."""
        data = file.recipe.data
        with naming_data_set(file):
            return read_class_names(data.path, data.evaluation, file.allowed)

    def views(
        self, file: RecipeFile, resolved: Sequence[ResolvedStep], facts: ModelInfo | None
    ) -> dict[str, Dataset]:
        """The data views of a recipe, with labels of the task that the model does.

        Raises PlanRefused if it lacks one that a step needs, or DataError.
        """
        wanted, task = wanted_views(file, resolved), task_in(facts)
        with naming_data_set(file):
            views = {name: self._view(file, view, task)[0] for name, view in wanted.items()}
        for step in resolved:
            require_usable(file, views, step)
        return views

    def as_trained(
        self, file: RecipeFile, views: Mapping[str, Dataset], facts: ModelInfo, model: ModelInfo
    ) -> dict[str, Dataset]:
        """The views with the classes that the `model` has, which is loaded from weights with these facts."""
        with naming_data_set(file):
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
        for name in LABELLED:
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
