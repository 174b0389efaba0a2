"""What was found in several images as one .npz file: how many objects each image has, and every field of theirs end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Found = TypeVar("Found", bound=DataclassInstance)
else:
    Found = TypeVar("Found")


def save_found(file: Path, kind: type[Found], images: Sequence[Found]) -> None:
    """Write what was found in several images; `kind` is a dataclass of arrays that have a row for each object."""
    columns = {each.name: [getattr(found, each.name) for found in images] for each in fields(kind)}
    counts = np.array([len(rows) for rows in columns["scores"]], np.int64)
    joined: dict[str, Any] = {name: np.concatenate(rows) for name, rows in columns.items() if rows}
    np.savez(file, counts=counts, **joined)


def load_found(file: Path, kind: type[Found]) -> list[Found]:
    """Read what `save_found` wrote, image by image."""
    with np.load(file) as data:
        counts = data["counts"]
        if not len(counts):
            return []
        ends = np.cumsum(counts)[:-1]
        columns = [np.split(data[each.name], ends) for each in fields(kind)]
    return [kind(*values) for values in zip(*columns, strict=True)]
