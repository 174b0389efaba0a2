"""Label files: where they lie, and the objects in them.

Both as in Ultralytics 8.x. Where it drops an image because of its label file, the file is at fault here; only a
file with boxes and polygons, which it drops in some versions and misreads in others, is read row by row for
detection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolodeploy.data.label_rows import Box, Label, RowFormat, Wrong, parse_row
from yolodeploy.system import read_plain, shown

__all__ = ["Box", "Labels", "label_file", "read_labels"]

MAX_FAULTS = 100  # that are looked for in one label file
_LABEL_BYTES = 4 << 20
_MAX_OBJECTS = 10_000  # in an image; each is compared with up to 300 detections


@dataclass(frozen=True)
class Labels:
    """What the label file of an image says: whether there is one, its objects, and what is wrong in it.

    A fault is one line that names the file and the row. `others` says of how many of them the row may be one of
    another task.
    """

    exists: bool = True
    objects: tuple[Label, ...] = ()
    faults: tuple[str, ...] = ()
    others: int = 0


def label_file(image: Path) -> Path:
    """Find an image's label file by Ultralytics' rule: the last `images` folder becomes `labels`."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_labels(label: Path, form: RowFormat) -> Labels:
    """Read a label file; repeated rows count once."""
    try:
        text = read_plain(label, _LABEL_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return Labels(exists=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return Labels(faults=(f"{shown(label)}: cannot be read as a label file: {reason}",))
    found: dict[bytes, Label] = {}
    faults: list[str] = []
    others = 0
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        row = parse_row(fields, form)
        if isinstance(row, Wrong):
            faults.append(f"{shown(label)}:{number}: {row.text}")
            others += bool(row.other)
        else:
            found.setdefault(row[1], row[0])
        if len(found) > _MAX_OBJECTS:
            faults.append(
                f"{shown(label)}:{number}: an image may have at most {_MAX_OBJECTS:,} objects. Restore the file."
            )
        if len(found) > _MAX_OBJECTS or len(faults) >= MAX_FAULTS:
            break
    return Labels(True, tuple(found.values()), tuple(faults), others)
