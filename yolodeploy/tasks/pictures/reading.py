"""Reads a `pictures.json` of unknown origin, such as that of somebody else's bundle: typed, bounded, or refused."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from yolodeploy.system import quotable, read_plain
from yolodeploy.tasks.pictures.picture import (
    FORMAT,
    MAX_BYTES,
    MAX_JPEG,
    MAX_PICTURES,
    MAX_SHAPES,
    MAX_SIDE,
    Picture,
    Pictures,
)
from yolodeploy.tasks.shapes import MAX_NAME, Shape

_TASKS = ("detect", "segment", "pose", "obb", "classify")
_MARKS = (None, "lost", "added", "changed")
_CHOSEN = ("worst", "sample")
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_START, _MARK = b"\xff\xd8", 0xFF  # of a JPEG, and of each of its segments
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the others are tables
_MAX_PARTS, _MAX_POINTS, _MAX_LINES = 16, 256, 256
_MAX_PIXELS, _FAR = 1 << 20, 1e6  # pixels of an image, and of a point
T = TypeVar("T")


def read_pictures(file: Path) -> Pictures:
    """Read a file of pictures; raises OSError, or ValueError that says in one sentence what it is instead."""
    return parse_pictures(read_plain(file, MAX_BYTES))


def parse_pictures(data: bytes) -> Pictures:
    """Pictures from the bytes of a file; raises ValueError with the reason if they are none."""
    try:
        raw = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    table = _table(raw, "it", {"format", "task", "pictures"})
    if table["format"] != FORMAT:
        raise ValueError(
            f"its format is {_short(table['format'])}, and this release reads {FORMAT}"
        )
    task = _one_of(table["task"], "task", _TASKS)
    return Pictures(task, _rows(table["pictures"], "pictures", MAX_PICTURES, _picture))


def _picture(raw: Any, where: str) -> Picture:
    row = _table(raw, where, set(Picture.__dataclass_fields__))
    truth = row["truth"]
    return Picture(
        image=_text(row["image"], f"{where}.image"),
        digest=_digest(row["digest"], f"{where}.digest"),
        width=_side(row["width"], f"{where}.width"),
        height=_side(row["height"], f"{where}.height"),
        chosen=_one_of(row["chosen"], f"{where}.chosen", _CHOSEN),
        fidelity=_share(row["fidelity"], f"{where}.fidelity"),
        jpeg=_image(row["jpeg"], f"{where}.jpeg"),
        truth=None if truth is None else _shapes(truth, f"{where}.truth"),
        source=_shapes(row["source"], f"{where}.source"),
        artifact=_shapes(row["artifact"], f"{where}.artifact"),
    )


def _shapes(raw: Any, where: str) -> tuple[Shape, ...]:
    return _rows(raw, where, MAX_SHAPES, _shape)


def _shape(raw: Any, where: str) -> Shape:
    row = _table(raw, where, {"class", "score", "outlines", "lines", "points", "mark"})
    return Shape(
        name=_text(row["class"], f"{where}.class"),
        score=_share(row["score"], f"{where}.score"),
        outlines=_rows(row["outlines"], f"{where}.outlines", _MAX_PARTS, _outline),
        lines=_rows(row["lines"], f"{where}.lines", _MAX_LINES, _line),
        points=_rows(row["points"], f"{where}.points", _MAX_POINTS, _point),
        mark=_one_of(row["mark"], f"{where}.mark", _MARKS),
    )


def _outline(raw: Any, where: str) -> tuple[tuple[float, float], ...]:
    return _rows(raw, where, _MAX_POINTS, _point)


def _point(raw: Any, where: str) -> tuple[float, float]:
    x, y = _pixels(raw, where, 2)
    return x, y


def _line(raw: Any, where: str) -> tuple[float, float, float, float]:
    left, top, right, bottom = _pixels(raw, where, 4)
    return left, top, right, bottom


def _pixels(raw: Any, where: str, count: int) -> list[float]:
    if not isinstance(raw, list) or len(raw) != count:
        raise ValueError(f"{where} must be a list of {count} numbers, but is {_short(raw)}")
    return [_number(each, where, -_FAR, _FAR) for each in raw]


def _rows(raw: Any, where: str, most: int, of: Callable[[Any, str], T]) -> tuple[T, ...]:
    if not isinstance(raw, list):
        raise ValueError(f"{where} must be a list, but is {_short(raw)}")  # noqa: TRY004 - the file's text is wrong
    if len(raw) > most:
        raise ValueError(f"{where} has {len(raw)} entries, and at most {most} are allowed")
    return tuple(of(each, f"{where}[{number}]") for number, each in enumerate(raw))


def _table(raw: Any, where: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{where} must be an object, but is {_short(raw)}")  # noqa: TRY004 - likewise
    if raw.keys() != keys:
        other = min(raw.keys() ^ keys)
        raise ValueError(
            f"{where} {'lacks' if other in keys else 'has an unknown key'} {_short(other)}"
        )
    return raw


def _number(raw: Any, where: str, low: float, high: float) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
        raise ValueError(f"{where} must be a number from {low:g} to {high:g}, but is {_short(raw)}")
    return float(raw)


def _share(raw: Any, where: str) -> float | None:
    return None if raw is None else _number(raw, where, 0, 1)


def _side(raw: Any, where: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= _MAX_PIXELS:
        raise ValueError(
            f"{where} must be a whole number of pixels, at least 1, but is {_short(raw)}"
        )
    return raw


def _text(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or len(raw) > MAX_NAME:
        raise ValueError(f"{where} must be text of at most {MAX_NAME} characters")
    if any("\ud800" <= character <= "\udfff" for character in raw):
        raise ValueError(f"{where} has half of a character, which no file can hold")
    return raw


def _digest(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not _DIGEST.fullmatch(raw):
        raise ValueError(
            f"{where} must be `sha256:` and 64 hexadecimal digits, but is {_short(raw)}"
        )
    return raw


def _one_of(raw: Any, where: str, allowed: tuple[Any, ...]) -> Any:
    if not isinstance(raw, str | None) or raw not in allowed:
        listed = ", ".join("null" if each is None else each for each in allowed)
        raise ValueError(f"{where} must be one of {listed}, but is {_short(raw)}")
    return raw


def _image(raw: Any, where: str) -> bytes:
    try:
        data = base64.b64decode(raw, validate=True) if isinstance(raw, str) else b""
    except (binascii.Error, ValueError):
        data = b""
    if not 1 <= max(_jpeg_size(data)) <= MAX_SIDE or len(data) > MAX_JPEG:
        raise ValueError(
            f"{where} must be a JPEG of at most {MAX_SIDE} pixels and {MAX_JPEG >> 10} KiB in base64"
        )
    return data


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width as the first frame of a JPEG says (ITU T.81, annex B); zeros if it has none."""
    place = len(_START)
    while data.startswith(_START) and place + 9 <= len(data) and data[place] == _MARK:
        kind, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return int(height), int(width)
        place += 2 + length
    return 0, 0


def _no_number(text: str) -> float:
    raise ValueError(f"it has {text}, which is not a number")


def _short(raw: Any) -> str:
    """A value of unknown origin as a message has it."""
    if isinstance(raw, list | dict):
        return "a list" if isinstance(raw, list) else "an object"
    return quotable(raw if isinstance(raw, str) else json.dumps(raw), 40)
