"""Label files: where they lie, and the boxes in them.

Both as in Ultralytics 8.x, whose tolerance was found by experiment: coordinates may lie up to 0.01 outside of
0..1 and are taken as they are, sides may not be negative, and a polygon counts as its bounding box. Where
Ultralytics drops an image because of its label file, the file is at fault here; only a file with boxes and
polygons, which it drops in some versions and misreads in others, is read row by row.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.system import read_plain, shown

TOLERANCE = 0.01  # how far outside of 0..1 a coordinate may lie
MAX_FAULTS = 100  # that are looked for in one label file
_LABEL_BYTES = 4 << 20
_MAX_BOXES = 10_000  # in an image; each is compared with up to 300 detections
_LEAST, _MOST = array("f", (-TOLERANCE, 1 + TOLERANCE))  # Ultralytics compares 32-bit numbers


@dataclass(frozen=True)
class Box:
    """A labelled object: its class index, then its centre and size as fractions of the image (0..1)."""

    cls: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Labels:
    """What the label file of an image says: whether there is one, its boxes, and what is wrong in it.

    A fault is one line that names the file and the row.
    """

    exists: bool = True
    boxes: tuple[Box, ...] = ()
    faults: tuple[str, ...] = ()


def label_file(image: Path) -> Path:
    """Find an image's label file by Ultralytics' rule: the last `images` folder becomes `labels`."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_labels(label: Path, classes: int) -> Labels:
    """Read a label file; repeated rows count once."""
    try:
        text = read_plain(label, _LABEL_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return Labels(exists=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return Labels(faults=(f"{shown(label)}: cannot be read as a label file: {reason}",))
    found: dict[bytes, Box] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        box = _box(fields, classes)
        if isinstance(box, Box):
            found.setdefault(_rounded(box), box)
        else:
            faults.append(f"{shown(label)}:{number}: {box}")
        if len(found) > _MAX_BOXES:
            faults.append(
                f"{shown(label)}:{number}: an image may have at most {_MAX_BOXES:,} objects. Restore the file."
            )
        if len(found) > _MAX_BOXES or len(faults) >= MAX_FAULTS:
            break
    return Labels(True, tuple(found.values()), tuple(faults))


def _rounded(box: Box) -> bytes:
    """The row in 32-bit numbers: rows that differ in less are one to Ultralytics."""
    return array("f", (box.cls, box.x, box.y, box.width, box.height)).tobytes()


def _box(fields: list[str], classes: int) -> Box | str:
    """Parse a row; returns its box, or what is wrong with the row."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        return f"`{_quoted(fields)}` must be a row of numbers"
    cls, rest = values[0], values[1:]
    if len(rest) != 4 and (len(rest) < 6 or len(rest) % 2):
        return f"a row must be `class x y width height` or `class` and a polygon, but here are {len(values)} numbers"
    if cls != int(cls) or not 0 <= cls < classes:
        return f"class {fields[0][:20]} is out of range; data.yaml names {classes} classes (0..{classes - 1})"
    if len(rest) > 4:
        rest = _bounding_box(rest)
    if not _LEAST <= _single(min(rest)) <= _single(max(rest)) <= _MOST:
        return f"`{_quoted(fields[1:])}` must be fractions of the image, each in 0..1"
    if min(rest[2:]) < 0:
        return f"`{_quoted(fields[1:])}` has a negative width or height"
    return Box(int(cls), *rest)


def _single(value: float) -> float:
    """As a 32-bit number; what is far out of range stays as it is."""
    return array("f", (value,))[0] if -2 < value < 2 else value


def _quoted(fields: list[str]) -> str:
    text = " ".join(fields)[:60]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _bounding_box(polygon: list[float]) -> list[float]:
    xs, ys = polygon[::2], polygon[1::2]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return [min(xs) + width / 2, min(ys) + height / 2, width, height]
