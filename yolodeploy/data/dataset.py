"""Read an Ultralytics data.yaml as a list of images and boxes; images.py reads the pixels."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.data.images import letterboxed_file, readable, to_tensor
from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths, Document, Position, View, load_yaml, suggestion
from yolodeploy.system import (
    IMAGE_BYTES,
    ImageShape,
    StatCache,
    digest_of,
    open_plain,
    quotable,
    read_plain,
    shown,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SPLITS = ("train", "val", "test")
_BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|.{256}")  # checkpoints refuse these too
_LABEL_BYTES, _LIST_BYTES = 4 << 20, 16 << 20
_MAX_BOXES = 10_000  # in an image; each is compared with up to 300 detections


@dataclass(frozen=True)
class Box:
    """A labelled object: its class index, then its centre and size as fractions of the image (0..1)."""

    cls: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Dataset:
    """A selection of images of one split, in the order of their names.

    `names` are the class names, `images` absolute paths. Labels and pixels are read when asked for.
    """

    file: Path
    names: tuple[str, ...]
    images: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def boxes(self, image: Path) -> tuple[Box, ...]:
        """Read the labels of one image; an image without a label file has no objects."""
        return _boxes(label_file(image), len(self.names))

    @cached_property
    def labelled(self) -> bool:
        """Whether any image has a label file."""
        return any(label_file(image).is_file() for image in self.images)

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

        return digest_of({"names": list(self.names), "images": list(map(entry, self.images))})


def load_view(file: Path, view: View, seed: int, allowed: AllowedPaths | None = None) -> Dataset:
    """Choose the images of a view by the seed alone, not by folder, platform or listing order.

    Raises DataError if the file, the split, the images or the labels cannot be used, and PlanRefused
    if `allowed` is given and they lie outside it.
    """
    document = load_yaml(file, DataError)
    names = _names(document)
    found = _split_images(document, view.split, allowed)
    if view.images is not None and view.images > len(found):
        raise DataError(
            f"{shown(file)}: the recipe asks for {view.images} images of `{view.split}`, which has "
            f"{len(found)}. Ask for fewer, or leave `images` out to take all."
        )
    chosen = sorted(found, key=lambda image: _rank(image, seed))[: view.images]
    dataset = Dataset(file, names, tuple(sorted(chosen, key=lambda image: image.name)))
    if allowed:
        files = (file for image in dataset.images for file in (image, label_file(image)))
        allowed.require_all(files, document.where((view.split,)), f"`{view.split}` has")
    for image in dataset.images:
        _check_header(image)
        dataset.boxes(image)
    return dataset


def _rank(image: Path, seed: int) -> str:
    return hashlib.sha256(os.fsencode(f"{seed}:{image.name}")).hexdigest()


def _names(document: Document) -> tuple[str, ...]:
    value = document.value.get("names") if isinstance(document.value, dict) else None
    at = document.where(("names",))
    if isinstance(value, dict) and sorted(value, key=str) == sorted(range(len(value)), key=str):
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, list) or not value:
        raise DataError(f"{at}: `names` must list the class names, numbered from 0")
    names = tuple(map(str, value))
    if bad := next((name for name in names if _BAD_NAME.search(name)), None):
        raise DataError(
            f"{at}: the class name `{quotable(bad)}` must have fewer than 256 characters and no control characters"
        )
    return names


def _split_images(document: Document, split: str, allowed: AllowedPaths | None) -> list[Path]:
    raw = document.value if isinstance(document.value, dict) else {}
    if not raw.get(split):
        known = [name for name in SPLITS if raw.get(name)]
        at = document.where(())
        raise DataError(f"{at}: there is no split `{split}`.{suggestion(split, known)}")
    at = document.where((split,))
    sources = _sources(document, split, allowed)
    images = {image for source in sources for image in _images_of(source, at, split)}
    if not images:
        raise DataError(f"{at}: `{split}` has no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(images)  # gives images of the same name in two folders a fixed order


def _sources(document: Document, split: str, allowed: AllowedPaths | None) -> Iterator[Path]:
    raw, at = document.value, document.where((split,))
    listed = raw[split] if isinstance(raw[split], list) else [raw[split]]
    for source in listed:
        path = document.file.parent.joinpath(str(raw.get("path") or "."), str(source))
        if "\0" in str(path) or "\n" in str(path):
            raise DataError(f"{at}: `{split}` holds a NUL character or a line break")
        if allowed:
            allowed.require(path, at, f"`{split}`:")
        yield path


def _images_of(source: Path, at: Position, split: str) -> list[Path]:
    """Find images by absolute path; links are not followed, because labels lie beside the link."""
    if os.path.isdir(source):  # noqa: PTH112 - unlike Path's, it takes any text
        files = (Path(root) / name for root, _, names in os.walk(source) for name in names)
        return [file.absolute() for file in files if file.suffix.lower() in SUFFIXES]
    if source.suffix == ".txt" and os.path.exists(source):  # noqa: PTH110
        return _listed(source, at, split)
    raise DataError(
        f"{at}: `{split}` must be a folder or a .txt list of images, but {shown(source)} is neither"
    )


def _listed(source: Path, at: Position, split: str) -> list[Path]:
    try:
        lines = read_plain(source, _LIST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
        raise DataError(
            f"{at}: `{split}` names {shown(source)}, which is not a text file of image paths{reason}"
        ) from None
    if any("\0" in line for line in lines):
        raise DataError(f"{at}: `{split}` names {shown(source)}, which holds NUL characters")
    images = [(source.parent / line.strip()).absolute() for line in lines if line.strip()]
    if other := next((image for image in images if image.suffix.lower() not in SUFFIXES), None):
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{at}: `{split}` names {shown(other)}, which is not an image ({known})")
    return images


def label_file(image: Path) -> Path:
    """Find an image's label file by Ultralytics' rule: the last `images` folder becomes `labels`."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _boxes(label: Path, classes: int) -> tuple[Box, ...]:
    try:
        text = read_plain(label, _LABEL_BYTES).decode("utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{shown(label)}: cannot be read as a label file: {reason}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if fields := line.split():
            box = _box(fields, classes)
            if isinstance(box, str):
                raise DataError(f"{shown(label)}:{number}: {box}")
            found.append(box)
        if len(found) > _MAX_BOXES:
            raise DataError(
                f"{shown(label)}:{number}: an image may have at most {_MAX_BOXES:,} objects. Restore the file."
            )
    return tuple(dict.fromkeys(found))  # Ultralytics drops repeated rows too


def _box(fields: list[str], classes: int) -> Box | str:
    """Parse a row; returns its box, or what is wrong with the row."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        return f"`{' '.join(fields)[:60]}` must be a row of numbers"
    cls, rest = values[0], values[1:]
    if len(rest) != 4 and (len(rest) < 6 or len(rest) % 2):
        return f"a row must be `class x y width height` or `class` and a polygon, but here are {len(values)} numbers"
    if cls != int(cls) or not 0 <= cls < classes:
        return f"class {fields[0]} is out of range; data.yaml names {classes} classes (0..{classes - 1})"
    if not all(0 <= value <= 1 for value in rest):
        return f"`{' '.join(fields[1:])[:60]}` must be fractions of the image, each in 0..1"
    return Box(int(cls), *(rest if len(rest) == 4 else _bounding_box(rest)))


def _bounding_box(polygon: list[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[::2], polygon[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return min(xs) + width / 2, min(ys) + height / 2, width, height


def _check_header(image: Path) -> None:
    with readable(image), open_plain(image, IMAGE_BYTES) as file:
        empty = not file.read(1)
    if empty:
        raise DataError(f"{shown(image)}: the image is empty. Remove it or restore the file.")


def _digest(path: Path, cache: StatCache) -> str:
    with readable(path):
        return cache.digest(path)
