"""Which images a recipe measures on and calibrates with, and what has to be allowed to read them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolodeploy.data import Dataset, load_view, survey_view
from yolodeploy.errors import DataError
from yolodeploy.proposal.model import Model
from yolodeploy.recipe import AllowedPaths, Position, View
from yolodeploy.system import StatCache, shown

# More tell smaller drops apart, but every device needs seconds for each hundred.
_MOST_MEASURED = 1000
_CALIBRATED = 32  # more bought nothing measurable (docs/recipes.md, `quantize`)
_LEAST_CALIBRATED = 2


@dataclass(frozen=True)
class Images:
    """The views of a data set.

    `evaluated` and `available` are how many images are measured on, of how many; `labelled` says whether they have labels, so
    that accuracy can be measured. `calibration` is None if there are none to look at, with the reason in `because`. `read` are
    the folders and files that reading them touched, links resolved.
    """

    evaluation: View
    evaluated: int
    available: int
    labelled: bool
    calibration: View | None
    calibrated: int
    because: str
    read: frozenset[Path]


@dataclass(frozen=True)
class _Noted(AllowedPaths):
    """Permits everything, and notes what was asked for."""

    read: set[Path] = field(default_factory=set, compare=False)

    def permits(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        self.read.add(real if real.is_dir() else real.parent)
        return True

    def require(self, path: Path, at: Position, what: str, of: str = "") -> None:  # noqa: ARG002
        self.permits(path)


def choose_images(data: Path, model: Model, digests: StatCache) -> Images:
    """Choose the views of a data set; raises DataError if it has nothing to measure on, or labels that cannot be used."""
    noted = _Noted(Path("/"))
    noted.permits(data)
    evaluation, measured = _evaluation(data, model, noted)
    calibration, calibrated, because = _calibration(
        data, model, evaluation, measured, noted, digests
    )
    return Images(
        evaluation,
        len(measured),
        measured.counts.available,
        measured.counts.objects > 0 or model.info.task == "classify",
        calibration,
        calibrated,
        because,
        frozenset(noted.read),
    )


def _evaluation(data: Path, model: Model, noted: AllowedPaths) -> tuple[View, Dataset]:
    """The images of `val`, or of `test` where there is no `val`; a fixed choice if they are very many."""
    view = View(split="val")
    try:
        view = _measured(data, view, model, noted)
    except DataError as missing:
        try:
            view = _measured(data, View(split="test"), model, noted)
        except DataError:
            raise missing from None
    return view, load_view(data, view, 0, noted, model.info.task)


def _measured(data: Path, view: View, model: Model, noted: AllowedPaths) -> View:
    count = _count(data, view.split, model, noted)
    return view.model_copy(update={"images": _MOST_MEASURED}) if count > _MOST_MEASURED else view


def _count(data: Path, split: str, model: Model, noted: AllowedPaths) -> int:
    """How many images a split has; raises DataError if there is no such split."""
    found, _ = survey_view(data, View(split=split, images=1), 0, noted, model.info.task)
    return found.counts.available


def _calibration(
    data: Path,
    model: Model,
    evaluation: View,
    measured: Dataset,
    noted: AllowedPaths,
    digests: StatCache,
) -> tuple[View | None, int, str]:
    """Training images that are no evaluation images: the view, how many, and why there are none."""
    try:
        available = _count(data, "train", model, noted)
    except DataError as error:
        return None, 0, f"there are no training images here: {str(error).splitlines()[0]}"
    wanted = min(_CALIBRATED, available)
    if wanted < _LEAST_CALIBRATED:
        return (
            None,
            0,
            f"`train` has {available} image, and ranges need at least {_LEAST_CALIBRATED}",
        )
    seen = {digests.digest(image) for image in measured.images}
    while wanted >= _LEAST_CALIBRATED:
        view = View(split="train", images=wanted if wanted < available else None)
        chosen = load_view(data, view, 0, noted, model.info.task)
        if not _shared(chosen.images, seen, digests):
            return view, len(chosen), ""
        wanted //= 2
    return (
        None,
        0,
        f"the images of `train` are also in `{evaluation.split}`, which accuracy is measured on",
    )


def _shared(images: Sequence[Path], seen: set[str], digests: StatCache) -> bool:
    return any(digests.digest(image) in seen for image in images)


def outside(read: Sequence[Path], allowed: AllowedPaths) -> tuple[Path, ...]:
    """The folders that must be allowed besides the recipe's project: those that lie in another are left out."""
    needed = sorted({path for path in read if not allowed.permits(path)})
    return tuple(p for p in needed if not any(p != q and p.is_relative_to(q) for q in needed))


def option(folder: Path) -> str:
    """A folder as the value of `--allow`."""
    return "." if folder == Path.cwd() else shown(folder)
