"""Where label files were looked for, and where else they may lie: the hint for a data set that lacks them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from yolodeploy.data.labels import label_file
from yolodeploy.data.paths import is_folder
from yolodeploy.recipe import AllowedPaths
from yolodeploy.system import shown

_SAMPLE = 200  # images without a label file that are looked for elsewhere
_MAX_FOLDERS = 16  # beside or among the images
_FORMATS = (".txt", ".xml", ".json")
_LIKELY = ("label", "annotation", "txt")  # a folder beside `images` whose name holds one of these


def missing_labels(images: Sequence[Path], allowed: AllowedPaths | None = None) -> str | None:
    """Say where labels were looked for and what is there, if most images have none; else None.

    Folders outside of `allowed` are not looked into.
    """
    without = [image for image in images if not label_file(image).is_file()]
    missing = len(without)
    if 2 * missing <= len(images):
        return None
    have = "has no label file and counts" if missing == 1 else "have no label file and count"
    folders = _frequent(map(_label_folder, without))
    looked = ", ".join(_described(folder, allowed) for folder in folders)
    lines = f"{missing} of {len(images)} images {have} as showing nothing. Looked in {looked}."
    return f"{lines} {_elsewhere(without[:_SAMPLE], allowed)}".rstrip()


def _label_folder(image: Path) -> Path:
    return label_file(image).parent


def _frequent(folders: Iterable[Path]) -> list[Path]:
    return [folder for folder, _ in Counter(folders).most_common(3)]


def _described(folder: Path, allowed: AllowedPaths | None) -> str:
    if allowed and not allowed.permits(folder):
        return f"{shown(folder)} (which the recipe may not read)"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names alone
    except OSError:
        return f"{shown(folder)} (which does not exist)"
    texts = sum(name.endswith(".txt") for name in names)
    if not names:
        return f"{shown(folder)} (which is empty)"
    return f"{shown(folder)} (which has {texts} .txt files of {len(names)})"


def _elsewhere(without: Sequence[Path], allowed: AllowedPaths | None) -> str:
    """The folder that has most files with the names of the images, and what to do about it."""
    found = Counter(_other_places(without, allowed))
    if not found:
        return ""
    (folder, suffix), count = max(found.items(), key=lambda item: (item[1], str(item[0])))
    there = f"{shown(folder)} has {count} {suffix} files with the names of these images"
    if suffix != ".txt":
        return f"{there}: convert them to YOLO's format, one .txt file per image."
    return (
        f"{there}: move them to where they are looked for. Ultralytics' rule: the last folder `images` in an "
        "image's path becomes `labels`, and without one they lie beside the image."
    )


def _other_places(
    images: Sequence[Path], allowed: AllowedPaths | None
) -> Iterator[tuple[Path, str]]:
    """Folder and suffix of files with the images' names in likely places, once for each image."""
    likely: dict[Path, tuple[Path, ...]] = {}
    listed: dict[Path, tuple[Path, ...]] = {}
    for image in images:
        if image.parent not in likely:
            folders = dict.fromkeys(_likely_folders(image.parent, listed, allowed))
            likely[image.parent] = tuple(
                folder for folder in folders if allowed is None or allowed.permits(folder)
            )
        own = label_file(image)
        for folder in likely[image.parent]:
            for suffix in _FORMATS:
                file = folder / f"{image.stem}{suffix}"
                if file != own and os.path.isfile(file):  # noqa: PTH113
                    yield folder, suffix


def _likely_folders(
    home: Path, listed: dict[Path, tuple[Path, ...]], allowed: AllowedPaths | None
) -> Iterator[Path]:
    """Where the labels of the images in `home` may lie; `listed` remembers what was listed."""
    yield home
    parts = [part.lower() for part in home.parts]
    above = next((n for n in range(len(parts) - 1, 0, -1) if "image" in parts[n]), len(parts) - 1)
    base, inner = Path(*home.parts[:above]), home.parts[above + 1 :]
    for folder in (base, home):
        if folder not in listed:
            readable = allowed is None or allowed.permits(folder)
            listed[folder] = _label_folders(folder) if readable else ()
        for found in listed[folder]:
            yield found
            if inner:
                yield found.joinpath(*inner)


def _label_folders(folder: Path) -> tuple[Path, ...]:
    """The first folders inside one whose names sound like labels."""
    try:
        with os.scandir(folder) as entries:
            named = [
                entry for entry in entries if any(word in entry.name.lower() for word in _LIKELY)
            ]
    except OSError:
        return ()
    folders = filter(is_folder, sorted(named, key=lambda entry: entry.name))
    return tuple(Path(entry.path) for entry in islice(folders, _MAX_FOLDERS))
