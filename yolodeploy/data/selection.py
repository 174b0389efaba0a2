"""A selection of the images of a data set, and what is labelled in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yolodeploy.data.class_folders import class_of
from yolodeploy.data.counts import Counts
from yolodeploy.data.decoding import HEIF_SUFFIXES, heif_library
from yolodeploy.data.images import letterboxed_file, readable, to_tensor
from yolodeploy.data.keypoints import KeypointShape
from yolodeploy.data.label_rows import Box, Corners, Label, Polygon, Pose, RowFormat, with_class
from yolodeploy.data.label_search import missing_labels
from yolodeploy.data.labels import label_file, read_labels
from yolodeploy.data.names import numbers_of
from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths
from yolodeploy.system import ImageShape, StatCache, digest_of, installed, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN_FAULTS = 20
_NOTHING = Counts()
_Kind = TypeVar("_Kind", Polygon, Pose, Corners)


@dataclass(frozen=True)
class Dataset:
    """A selection of images of one split, in the order of their names.

    `names` are the class names, `images` absolute paths. Labels and pixels are read when asked for. `named` is
    false if the file gives only the number of classes. `counts` are those of the view as it was loaded.
    `merged` is the number of classes that the labels name where `names` has one for all of them, else 0.
    Where `names` are some of the classes that the labels name, `given` are all of those, and `kept` the number
    of each of `names` among them; objects of the others are left out.
    `task` says what a label is; `keypoints` those of every pose. Of a classification data set `place` is the
    folder of the split, and a label the folder in it that an image lies in.
    `allowed` says which files may be read; None for all.
    """

    file: Path
    names: tuple[str, ...]
    images: tuple[Path, ...]
    named: bool = True
    counts: Counts = _NOTHING
    merged: int = 0
    given: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    task: str = "detect"
    keypoints: KeypointShape | None = None
    place: Path | None = None
    allowed: AllowedPaths | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def row_format(self) -> RowFormat:
        """What the rows of the label files must be."""
        classes = self.merged or len(self.given or self.names)
        return RowFormat(self.task, classes, self.keypoints)

    def labels(self, image: Path) -> tuple[Label, ...]:
        """Read the labels of one image, by the task; an image without a label file has no objects.

        Raises DataError with what is wrong in the file.
        """
        found = read_labels(label_file(image), self.row_format)
        if found.faults:
            raise DataError(listed(found.faults))
        if self.kept:
            numbers = {theirs: ours for ours, theirs in enumerate(self.kept)}
            kept = (label for label in found.objects if label.cls in numbers)
            return tuple(with_class(label, numbers[label.cls]) for label in kept)
        if self.merged:
            return tuple(with_class(label, 0) for label in found.objects)
        return found.objects

    def boxes(self, image: Path) -> tuple[Box, ...]:
        """The boxes of an image's labels: of a polygon or four corners the upright box around them."""
        return tuple(label.box for label in self.labels(image))

    def polygons(self, image: Path) -> tuple[Polygon, ...]:
        """The masks of an image of a segment data set."""
        return self._of(Polygon, image)

    def poses(self, image: Path) -> tuple[Pose, ...]:
        """The poses of an image of a pose data set."""
        return self._of(Pose, image)

    def corners(self, image: Path) -> tuple[Corners, ...]:
        """The rotated boxes of an image of an obb data set."""
        return self._of(Corners, image)

    def class_of(self, image: Path) -> int:
        """The class index of an image of a classification data set."""
        folder = self.folder_of(image)
        return 0 if self.merged else numbers_of(folder, self.names)[0]

    def folder_of(self, image: Path) -> str:
        """The name of the class folder that an image of a classification data set lies in."""
        if self.place is None:
            raise ValueError(f"images of a {self.task} data set lie in no class folder")
        return class_of(image, self.place)

    def _of(self, kind: type[_Kind], image: Path) -> tuple[_Kind, ...]:
        found = self.labels(image)
        matching = tuple(label for label in found if isinstance(label, kind))
        if len(matching) != len(found):
            raise ValueError(
                f"labels of a {self.task} data set are not of the kind {kind.__name__}"
            )
        return matching

    def as_one_class(self, name: str) -> Dataset:
        """The same images and boxes with all classes taken for one, as Ultralytics does with `single_cls`."""
        return replace(self, names=(name,), named=True, merged=self.merged or len(self.names))

    def only(self, names: tuple[str, ...], model: tuple[str, ...]) -> Dataset:
        """The same images with the objects of some classes alone, numbered in the order of `names`.

        A data set that gives only the number of its classes has those of the `model`, or `names`. Raises DataError
        if it lacks one of `names`.
        """
        given = self.names
        if not self.named:
            given = next((some for some in (model, names) if len(some) == len(given)), given)
        kept = [numbers_of(name, given) for name in names]
        for name, found in zip(names, kept, strict=True):
            if len(found) != 1:
                count = len(found) or "no"
                raise DataError(
                    f"the recipe keeps the class `{name}`, and the data set has {count} classes of that name. "
                    "Correct the names in data.yaml, or `model: classes:` in the recipe."
                )
        numbers = tuple(number for (number,) in kept)
        if numbers == tuple(range(len(given))):
            return self
        some = replace(self, names=names, named=True, given=given, kept=numbers)
        if self.place is not None:
            images = tuple(image for image in self.images if self.class_of(image) in numbers)
            left_out = replace(self.counts, left_out=len(self) - len(images))
            return with_class_counts(replace(some, images=images, kept=(), counts=left_out))
        left = [len(some.labels(image)) for image in some.images]
        return replace(
            some,
            counts=replace(
                self.counts,
                background=left.count(0),
                objects=sum(left),
                left_out=self.counts.objects - sum(left),
            ),
        )

    def for_model(
        self, names: tuple[str, ...], keypoints: tuple[int, int] | None = None
    ) -> Dataset:
        """The same images with labels as the model of these classes and keypoints (how many, numbers of each) means them.

        Classes in folders get the numbers that the model has for them. Raises DataError if a pose data set has other
        keypoints, or if a classification data set has a class that the model lacks. Classes of label files are not
        compared.
        """
        if self.keypoints and keypoints and tuple(keypoints) != self.keypoints.shape:
            raise DataError(
                f"{shown(self.file)}: `{self.keypoints}` is not what the model has, `kpt_shape: {list(keypoints)}`. "
                "Use the data.yaml that the model was trained with."
            )
        if self.place is None:
            return self
        for name in self.names:
            if (count := len(numbers_of(name, names))) != 1:
                known = ", ".join(names if len(names) <= 5 else (*names[:5], "..."))
                raise DataError(
                    f"{shown(self.place / name)}: the model has {f'{count} classes' if count else 'no class'} `{name}` ({known}). Remove the folder from "
                    "every split, or rename it to the class that is meant."
                )
        return with_class_counts(replace(self, names=names))

    @cached_property
    def labelled(self) -> bool:
        """Whether any image has a label file, or lies in the folder of a class."""
        return self.place is not None or any(label_file(image).is_file() for image in self.images)

    @cached_property
    def missing_labels(self) -> str | None:
        """If most images have no label file: where those were looked for, and what is there; else None."""
        enough = self.place is not None or 2 * self.counts.labelled >= max(len(self), 1)
        return None if enough else missing_labels(self.images, self.allowed)

    def spread(self, count: int) -> Dataset:
        """Take at most `count` of the images, evenly spread over the selection."""
        total = len(self)
        if count >= total:
            return self
        return replace(self, images=tuple(self.images[i * total // count] for i in range(count)))

    def to_calibrate(self, count: int | None = None) -> Dataset:
        """Take the images to calibrate on: `count` of them evenly spread, or all (None).

        Raises DataError if there are fewer than two, or fewer than `count`.
        """
        total = len(self)
        if total < 2:
            raise DataError(
                f"{total} calibration image says nothing about the range of activations. Name more "
                "under `data: calibration:`; 32 to 64 are usual."
            )
        if count is not None and count > total:
            raise DataError(
                f"`subset: {count}` asks for more than the {total} calibration images. Ask for fewer, "
                "leave it out, or name more under `data: calibration:`."
            )
        return self if count is None else self.spread(count)

    def letterboxed(self, imgsz: ImageShape) -> Iterator[NDArray[np.float32]]:
        """Stream the images as float32 `[1, channels, height, width]` in 0..1, one at a time."""
        for image in self.images:
            yield to_tensor(letterboxed_file(image, imgsz).pixels)

    def digest(self, cache: StatCache) -> str:
        """Digest of the selection: class names, file names, image bytes and label bytes."""

        def entry(image: Path) -> list[str | None]:
            if self.place is not None:
                return [image.name, _digest(image, cache), class_of(image, self.place)]
            label = label_file(image)
            has_label = label.is_file()
            return [image.name, _digest(image, cache), _digest(label, cache) if has_label else None]

        value: dict[str, Any] = {"names": list(self.names), "images": list(map(entry, self.images))}
        if self.kept:
            value["kept"] = list(self.kept)
        if self.task != "detect":
            value["task"] = self.task
        if self.keypoints and self.task == "pose":
            value["keypoints"] = [*self.keypoints.shape]
        if self.place is not None:
            value["scaled with"] = installed("pillow")  # see `letterbox`
        library = heif_library()
        if library and any(image.suffix.lower() in HEIF_SUFFIXES for image in self.images):
            value["decoded with"] = installed(library.replace("_", "-"))
        return digest_of(value)


def with_class_counts(view: Dataset) -> Dataset:
    """A classification data set with the counts of its images."""
    count, names, place = len(view), view.names, view.place
    seen = {view.class_of(image) for image in view.images} if place else set()
    empty = tuple(name for number, name in enumerate(names) if number not in seen)
    return replace(
        view,
        counts=replace(
            view.counts,
            images=count,
            labelled=count,
            objects=count,
            classes=len(names),
            empty=empty,
        ),
    )


def listed(faults: Iterable[str]) -> str:
    """The first faults, one a line, and how many more there are."""
    lines = list(faults)
    more = len(lines) - _SHOWN_FAULTS
    return "\n".join([*lines[:_SHOWN_FAULTS], f"and {more} more"] if more > 0 else lines)


def _digest(path: Path, cache: StatCache) -> str:
    with readable(path):
        return cache.digest(path)
