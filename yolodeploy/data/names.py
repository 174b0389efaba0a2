"""Class names of a data.yaml, read as PyYAML reads them, which is how they get into a checkpoint.

Ultralytics reads a data.yaml by the rules of YAML 1.1 and stores the text of each value: `02146` is the class
`1126`, `on` is `True`, `1_000` is `1000`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count as count_from

from yolodeploy.errors import DataError
from yolodeploy.recipe import Document, Position, scalar_readings
from yolodeploy.system import quotable

BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|.{256}")  # checkpoints refuse these too
_MAX_CLASSES = 20_000  # as many as the file may hold values


def read_names(document: Document) -> tuple[tuple[str, ...], bool]:
    """The class names, and whether the file gives them: with `nc` alone they are `class_0`, `class_1`, ...

    Raises DataError if the file gives neither, or names and `nc` that differ in number.
    """
    raw = document.value if isinstance(document.value, dict) else {}
    at, value = document.where(("names",)), raw.get("names")
    count = _count(document, raw["nc"]) if "nc" in raw else None
    if value is None and count:
        return tuple(f"class_{index}" for index in range(count)), False
    if isinstance(value, dict):
        value = _by_number(value, at)
    if not isinstance(value, list) or not value:
        raise DataError(f"{at}: `names` must list the class names, numbered from 0")
    if count not in (None, len(value)):
        raise DataError(
            f"{document.where(('nc',))}: `nc: {count}` contradicts `names`, which lists {len(value)}. "
            "Correct the wrong one, or remove `nc`."
        )
    names = tuple(map(str, value))
    if bad := next((name for name in names if BAD_NAME.search(name)), None):
        raise DataError(
            f"{at}: the class name `{quotable(bad)}` must have fewer than 256 characters and no control characters"
        )
    return names, True


def same_name(one: str, other: str) -> bool:
    """Whether two class names are one, or differ only by the YAML version that read them."""
    return one == other or one in scalar_readings(other) or other in scalar_readings(one)


def numbers_of(name: str, names: Sequence[str]) -> list[int]:
    """The numbers of the classes of this name; if there is none, of those that `same_name` takes for it."""
    exact = [number for number, known in enumerate(names) if known == name]
    return exact or [number for number, known in enumerate(names) if same_name(known, name)]


def _count(document: Document, value: object) -> int:
    try:
        count = int(str(value)) if not isinstance(value, float) else int(value)
    except (ValueError, OverflowError):
        count = 0
    if not 0 < count <= _MAX_CLASSES:
        raise DataError(
            f"{document.where(('nc',))}: `nc: {quotable(value)}` must be the number of classes, at least 1"
        )
    return count


def _by_number(names: dict[object, object], at: Position) -> list[object] | None:
    """The names in the order of their numbers, which may be quoted; None if they do not count from 0."""
    numbered: dict[int, object] = {}
    for key, name in names.items():
        try:
            number = int(str(key))
        except ValueError:
            return None
        if number in numbered:
            raise DataError(f"{at}: `names` gives class {number} twice; remove one")
        numbered[number] = name
    if numbered and min(numbered) >= 0 and (gaps := max(numbered) + 1 - len(numbered)):
        first = next(number for number in count_from(0) if number not in numbered)
        missing = f"{first} is missing" if gaps == 1 else f"{first} and others are missing"
        raise DataError(f"{at}: `names` must list the class names, numbered from 0: {missing}")
    return (
        [numbered[number] for number in sorted(numbered)]
        if min(numbered, default=-1) >= 0
        else None
    )
