"""Read an Ultralytics data.yaml as a list of images and boxes; images.py reads the pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.data.decoding import EMPTY, HEIF_SUFFIXES, heif_library
from yolodeploy.data.images import letterboxed_file, readable, to_tensor
from yolodeploy.data.label_search import missing_labels
from yolodeploy.data.labels import Box, label_file, read_labels
from yolodeploy.data.names import numbers_of, read_names
from yolodeploy.data.paths import Found, find_images, skipped_text
from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths, View, load_yaml
from yolodeploy.system import (
    IMAGE_BYTES,
    ImageShape,
    StatCache,
    digest_of,
    installed,
    open_plain,
    shown,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Counts:
    """What was read for a view, and what was left out.

    `images` were chosen of `available`; `labelled` have a label file, `background` show no object, with or
    without one; `skipped` says how many files among the images are none, by reason. `left_out` are labelled
    objects of classes that the recipe does not keep.
    """

    images: int = 0
    available: int = 0
    labelled: int = 0
    background: int = 0
    objects: int = 0
    skipped: tuple[tuple[str, int], ...] = ()
    left_out: int = 0

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "skipped": dict(self.skipped)}

    def __str__(self) -> str:
        chosen = f"{self.images} of {self.available}"
        images = f"{self.images if self.images == self.available else chosen} images"
        shows = f"{self.labelled} with a label file, {self.background} without objects"
        others = f", {self.left_out} of other classes left out" if self.left_out else ""
        return f"{images}, {shows}, {self.objects} objects{others}{skipped_text(self.skipped)}"


@dataclass(frozen=True)
class Dataset:
    """A selection of images of one split, in the order of their names.

    `names` are the class names, `images` absolute paths. Labels and pixels are read when asked for. `named` is
    false if the file gives only the number of classes. `counts` are those of the view as it was loaded.
    `merged` is the number of classes that the labels name where `names` has one for all of them, else 0.
    Where `names` are some of the classes that the labels name, `given` are all of those, and `kept` the number
    of each of `names` among them; objects of the others are left out.
    `allowed` says which files may be read; None for all.
    """

    file: Path
    names: tuple[str, ...]
    images: tuple[Path, ...]
    named: bool = True
    counts: Counts = Counts()
    merged: int = 0
    given: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    allowed: AllowedPaths | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def boxes(self, image: Path) -> tuple[Box, ...]:
        """Read the labels of one image; an image without a label file has no objects."""
        found = read_labels(label_file(image), self.merged or len(self.given or self.names))
        if found.faults:
            raise DataError(_listed(found.faults))
        if self.kept:
            numbers = {theirs: ours for ours, theirs in enumerate(self.kept)}
            kept = (box for box in found.boxes if box.cls in numbers)
            return tuple(replace(box, cls=numbers[box.cls]) for box in kept)
        return tuple(replace(box, cls=0) for box in found.boxes) if self.merged else found.boxes

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
        left = [len(some.boxes(image)) for image in some.images]
        return replace(
            some,
            counts=replace(
                self.counts,
                background=left.count(0),
                objects=sum(left),
                left_out=self.counts.objects - sum(left),
            ),
        )

    @cached_property
    def labelled(self) -> bool:
        """Whether any image has a label file."""
        return any(label_file(image).is_file() for image in self.images)

    @cached_property
    def missing_labels(self) -> str | None:
        """If most images have no label file: where those were looked for, and what is there; else None."""
        enough = 2 * self.counts.labelled >= max(len(self), 1)
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
            label = label_file(image)
            has_label = label.is_file()
            return [image.name, _digest(image, cache), _digest(label, cache) if has_label else None]

        value: dict[str, Any] = {"names": list(self.names), "images": list(map(entry, self.images))}
        if self.kept:
            value["kept"] = list(self.kept)
        library = heif_library()
        if library and any(image.suffix.lower() in HEIF_SUFFIXES for image in self.images):
            value["decoded with"] = installed(library.replace("_", "-"))
        return digest_of(value)


def load_view(file: Path, view: View, seed: int, allowed: AllowedPaths | None = None) -> Dataset:
    """Choose the images of a view by the seed alone, not by folder, platform or listing order.

    Raises DataError if the file, the split, the images or the labels cannot be used, with all faults of the
    labels at once, and PlanRefused if `allowed` is given and they lie outside it.
    """
    dataset, faults = survey_view(file, view, seed, allowed)
    if faults:
        raise DataError(_listed(faults))
    return dataset


def survey_view(
    file: Path, view: View, seed: int, allowed: AllowedPaths | None = None
) -> tuple[Dataset, list[str]]:
    """As `load_view`, but return what is wrong with images and labels, one line for each fault."""
    document = load_yaml(file, DataError, pyyaml=True)
    names, named = read_names(document)
    found = find_images(document, view.split, allowed)
    if view.images is not None and view.images > len(found.images):
        raise DataError(
            f"{shown(file)}: the recipe asks for {view.images} images of `{view.split}`, which has "
            f"{len(found.images)}. Ask for fewer, or leave `images` out to take all."
        )
    ordered = sorted(found.images)  # gives images of the same name in two folders a fixed order
    chosen = sorted(ordered, key=lambda image: _rank(image, seed))[: view.images]
    images = tuple(sorted(chosen, key=lambda image: image.name))
    dataset = Dataset(file, names, images, named, allowed=allowed)
    if allowed:
        at, of = document.where((view.split,)), f" of `{view.split}`"
        allowed.require_all(images, at, "the image", of)
        allowed.require_all(map(label_file, images), at, "the label file", of)
    return _counted(dataset, found)


def _counted(dataset: Dataset, found: Found) -> tuple[Dataset, list[str]]:
    """Read every label, and look whether every image can be opened."""
    faults, classes = list(found.faults), len(dataset.names)
    labelled = background = objects = 0
    for image in dataset.images:
        faults += _header_faults(image)
        labels = read_labels(label_file(image), classes)
        faults += labels.faults
        labelled += labels.exists
        background += not labels.boxes
        objects += len(labels.boxes)
    counts = Counts(len(dataset), len(found.images), labelled, background, objects, found.reasons())
    return replace(dataset, counts=counts), faults


def _listed(faults: Iterable[str]) -> str:
    """The first faults, one a line, and how many more there are."""
    lines = list(faults)
    more = len(lines) - _SHOWN_FAULTS
    return "\n".join([*lines[:_SHOWN_FAULTS], f"and {more} more"] if more > 0 else lines)


def _rank(image: Path, seed: int) -> str:
    return hashlib.sha256(os.fsencode(f"{seed}:{image.name}")).hexdigest()


def _header_faults(image: Path) -> list[str]:
    try:
        with readable(image), open_plain(image, IMAGE_BYTES) as file:
            empty = not file.read(1)
    except DataError as error:
        return [str(error)]
    return [f"{shown(image)}: {EMPTY}"] if empty else []


def _digest(path: Path, cache: StatCache) -> str:
    with readable(path):
        return cache.digest(path)
