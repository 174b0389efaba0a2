"""A classification data set: folders `train`, `val` and `test` with a folder for each class.

As in Ultralytics 8.x, with one difference: it numbers the classes of each split by the folders of that split, so a
split that lacks one is measured with wrong numbers. Here a class is its folder's name, and those of `train` count.
"""

from __future__ import annotations

import os
from pathlib import Path

from yolodeploy.data.names import BAD_NAME
from yolodeploy.data.paths import HIDDEN, SPLITS, SUFFIXES, Found, is_folder, skipped_text, walk
from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths, Position, suggestion
from yolodeploy.system import quotable, shown

_OTHER_NAMES = {"val": ("val", "validation", "valid")}  # that Ultralytics tries in turn
_LOOSE = "outside of class folders"


class Folder(Position):
    """A folder in place of a position in a file."""

    def __str__(self) -> str:
        return shown(self.file)


def find_classes(
    root: Path, split: str, allowed: AllowedPaths | None
) -> tuple[Path, tuple[str, ...], Found]:
    """The folder of a split, the names of all classes, and the images of the split.

    Raises DataError if there is no such folder, or none of its classes or images, and PlanRefused if `allowed` is given
    and the folder lies outside it.
    """
    if not os.path.isdir(root):  # noqa: PTH112 - unlike Path's, it takes any text
        raise DataError(
            f"{shown(root)} must be a folder with a folder for each class below `train`, `val` or `test`: a "
            "classification data set has no data.yaml"
        )
    place = _split_folder(root, split)
    found, at = Found(), Folder(place, 1, 1)
    if allowed:
        allowed.require(place, at, f"`{split}`:")
        allowed.require(root / "train", Folder(root, 1, 1), "`train`:")
    folders = _class_folders(place, found)
    if allowed:
        for name in folders:
            allowed.require(place / name, at, "the class folder")
    names = _names(root, place, folders)
    for name in folders:
        walk(place / name, found, allowed, at, split)
    if not found.images:
        raise DataError(
            f"{shown(place)}: no class folder has images ({', '.join(sorted(SUFFIXES))})"
            f"{skipped_text(found.reasons())}"
        )
    return place, names, found


def _split_folder(root: Path, split: str) -> Path:
    for name in _OTHER_NAMES.get(split, (split,)):
        if (root / name).is_dir():
            return root / name
    known = [name for name in SPLITS if (root / name).is_dir()]
    there = "" if known else " Put the class folders into `train` and `val`."
    raise DataError(
        f"{shown(root)}: there is no folder `{split}`, with a folder for each class.{suggestion(split, known)}{there}"
    )


def _class_folders(place: Path, found: Found) -> list[str]:
    """The names of the class folders of a split, in order; what lies beside them is left out."""
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{shown(place)}: cannot be read: {error.strerror}") from None
    folders: list[str] = []
    for entry in entries:
        if entry.name.startswith("."):
            found.skipped[entry.path] = HIDDEN
        elif is_folder(entry):
            folders.append(entry.name)
        elif not entry.name.endswith(".cache"):
            found.skipped[entry.path] = _LOOSE
    if not folders:
        raise DataError(f"{shown(place)}: must hold a folder for each class, but has no folder")
    return folders


def _names(root: Path, place: Path, folders: list[str]) -> tuple[str, ...]:
    """The names of the classes: the folders of `train`, or of the split if there is no `train`."""
    train = root / "train"
    names = tuple(_class_folders(train, Found()) if train.is_dir() else folders)
    if bad := next((name for name in (*names, *folders) if BAD_NAME.search(name)), None):
        raise DataError(
            f"{shown(root)}: the class folder `{quotable(bad)}` must have a name without control characters"
        )
    if new := [name for name in folders if name not in names]:
        raise DataError(
            f"{shown(place / new[0])}: `{quotable(new[0])}` is no class: {shown(train)} has no folder of that name. "
            "Rename the folder, or remove it."
        )
    return names


def class_of(image: Path, place: Path) -> str:
    """The name of an image's class: the folder below that of the split, however deep the image lies in it."""
    return image.relative_to(place).parts[0]
