"""Read a data set, by its data.yaml or its class folders, as a list of images and labels; images.py reads the pixels."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from yolodeploy.data.class_folders import Folder, find_classes
from yolodeploy.data.counts import Counts
from yolodeploy.data.decoding import EMPTY
from yolodeploy.data.images import readable
from yolodeploy.data.keypoints import read_keypoints, stated_keypoints
from yolodeploy.data.label_rows import Box
from yolodeploy.data.labels import label_file, read_labels
from yolodeploy.data.names import read_names
from yolodeploy.data.paths import Found, find_images
from yolodeploy.data.selection import Dataset, listed, with_class_counts
from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths, View, load_yaml
from yolodeploy.system import IMAGE_BYTES, open_plain, shown

__all__ = ["TASKS", "Box", "Dataset", "load_view", "survey_view"]

TASKS = ("detect", "segment", "pose", "obb", "classify")  # whose labels are known


def load_view(
    file: Path, view: View, seed: int, allowed: AllowedPaths | None = None, task: str = "detect"
) -> Dataset:
    """Choose the images of a view by the seed alone, not by folder, platform or listing order.

    `file` is a data.yaml, or for the task "classify" a folder. Raises DataError if the file, the split, the images or
    the labels cannot be used, or the labels are of another task, with all faults of the labels at once, and
    PlanRefused if `allowed` is given and they lie outside it.
    """
    dataset, faults = survey_view(file, view, seed, allowed, task)
    if faults:
        raise DataError(listed(faults))
    return dataset


def read_class_names(
    file: Path, view: View, allowed: AllowedPaths | None = None
) -> tuple[str, ...]:
    """The class names of a data.yaml or of class folders, without a look at images or labels; raises DataError."""
    if os.path.isdir(file):  # noqa: PTH112 - unlike Path's, it takes any text
        return find_classes(file, view.split, allowed)[1]
    return read_names(load_yaml(file, DataError, pyyaml=True))[0]


def survey_view(
    file: Path, view: View, seed: int, allowed: AllowedPaths | None = None, task: str = "detect"
) -> tuple[Dataset, list[str]]:
    """As `load_view`, but return what is wrong with images and labels, one line for each fault."""
    if task not in TASKS:
        raise DataError(f"the task must be one of {', '.join(TASKS)}, not `{task}`")
    if task == "classify":
        return _survey_folders(file, view, seed, allowed)
    if os.path.isdir(file):  # noqa: PTH112 - unlike Path's, it takes any text
        raise DataError(
            f"{shown(file)} is a folder, as of a classification data set. For the task `{task}` name a data.yaml."
        )
    document = load_yaml(file, DataError, pyyaml=True)
    names, named = read_names(document)
    keypoints = read_keypoints(document) if task == "pose" else stated_keypoints(document)
    found = find_images(document, view.split, allowed)
    images = _chosen(found.images, view, seed, file)
    dataset = Dataset(file, names, images, named, task=task, keypoints=keypoints, allowed=allowed)
    if allowed:
        at, of = document.where((view.split,)), f" of `{view.split}`"
        allowed.require_all(images, at, "the image", of)
        allowed.require_all(map(label_file, images), at, "the label file", of)
    return _counted(dataset, found)


def _survey_folders(
    root: Path, view: View, seed: int, allowed: AllowedPaths | None
) -> tuple[Dataset, list[str]]:
    place, names, found = find_classes(root, view.split, allowed)
    images = _chosen(found.images, view, seed, root)
    if allowed:
        allowed.require_all(images, Folder(place, 1, 1), "the image", f" of `{view.split}`")
    counts = Counts(available=len(found.images), skipped=found.reasons())
    dataset = Dataset(
        root, names, images, counts=counts, task="classify", place=place, allowed=allowed
    )
    faults = [*found.faults, *(fault for image in images for fault in _header_faults(image))]
    return with_class_counts(dataset), faults


def _chosen(found: set[Path], view: View, seed: int, file: Path) -> tuple[Path, ...]:
    """The images of a view, in the order of their names; DataError if it asks for more than there are."""
    ordered = sorted(found)  # gives images of the same name in two folders a fixed order
    number, count = view.fold
    ranked = sorted(ordered, key=lambda image: _rank(image, seed))[number - 1 :: count]
    if len(ranked) < (view.images or (1 if found else 0)):
        part = f"part {view.part} of " if view.part else ""
        raise DataError(
            f"{shown(file)}: the recipe asks for {view.images or 'the'} images of {part}`{view.split}`, which has "
            f"{len(ranked)}. Ask for fewer, or leave `{'images' if view.images else 'part'}` out to take all."
        )
    chosen = ranked[: view.images]
    return tuple(sorted(chosen, key=lambda image: image.name))


def _counted(dataset: Dataset, found: Found) -> tuple[Dataset, list[str]]:
    """Read every label, and look whether every image can be opened."""
    form = dataset.row_format
    rows, headers = list[str](), list[str]()
    labelled = background = objects = others = 0
    for image in dataset.images:
        headers += _header_faults(image)
        labels = read_labels(label_file(image), form)
        rows += labels.faults
        others += labels.others
        labelled += labels.exists
        background += not labels.objects
        objects += len(labels.objects)
    if others and not objects and others == len(rows):
        rows[1:] = []
        rows[0] += (
            f". No row of {shown(dataset.file)} fits: this data set is of another task than `{form.task}`. "
            "Use the one that the model was trained with."
        )
    counts = Counts(len(dataset), len(found.images), labelled, background, objects, found.reasons())
    return replace(dataset, counts=counts), [*found.faults, *headers, *rows]


def _rank(image: Path, seed: int) -> str:
    return hashlib.sha256(os.fsencode(f"{seed}:{image.name}")).hexdigest()


def _header_faults(image: Path) -> list[str]:
    try:
        with readable(image), open_plain(image, IMAGE_BYTES) as file:
            empty = not file.read(1)
    except DataError as error:
        return [str(error)]
    return [f"{shown(image)}: {EMPTY}"] if empty else []
