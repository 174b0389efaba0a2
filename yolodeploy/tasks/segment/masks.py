"""Masks as COCO's run lengths: small enough to keep hundreds for each image, and compared without unpacking them.

Runs alternate between outside and inside, go down the columns from the left one, and start outside. They are packed into
a string as COCO does ("counts" of a compressed RLE in its annotation files).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import mask_api_new_cpp as mask_api
from numpy.typing import NDArray

Floats64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

_AT_ONCE = 1 << 18  # pixels that wait to be packed


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of one image of `height` x `width` pixels: the packed run lengths of each, and its number of pixels `[n]`."""

    height: int
    width: int
    runs: tuple[bytes, ...]
    areas: Floats64

    def __len__(self) -> int:
        return len(self.runs)

    def iou(self, others: Masks) -> Floats64:
        """IoU `[n, m]` with other masks of the same image; that of two empty masks is 0."""
        if not self.runs or not others.runs:
            return np.zeros((len(self), len(others)))
        found = mask_api.iou(self.coco(), others.coco(), [0] * len(others))
        return np.nan_to_num(np.asarray(found, np.float64).reshape(len(self), len(others)))

    def take(self, places: Ints) -> Masks:
        """Some of the masks, by their places `[k]`."""
        runs = tuple(self.runs[place] for place in places.tolist())
        return Masks(self.height, self.width, runs, self.areas[places])

    def coco(self) -> list[dict[str, Any]]:
        """Each as COCO writes it: {"size": [height, width], "counts": text}."""
        size = [self.height, self.width]
        return [{"size": size, "counts": runs.decode("ascii")} for runs in self.runs]

    def part(self, which: int) -> tuple[Flags, int, int]:
        """The smallest part `[rows, columns]` of the image that one mask lies in, with its left and top."""
        (mask,) = self.coco()[which : which + 1]
        left, top, across, down = map(int, mask_api.toBbox([mask])[0])
        edges = np.cumsum(mask_api.toUncompressedRLE([mask])[0]["counts"]) - left * self.height
        changes = np.zeros(across * self.height + 1, np.int8)
        changes[edges[:-1:2]] = 1  # outside ends here, and inside behind the next
        changes[edges[1::2]] -= 1
        columns = np.cumsum(changes[:-1], dtype=np.int8).astype(np.bool_)
        flags: Flags = columns.reshape(across, self.height)[:, top : top + down].T
        return flags, left, top


@dataclass(frozen=True)
class _Part:
    """The part of an image that a mask lies in: where, its height, and its pixels down the columns.

    Above each column, and at the end, `line` has a pixel outside.
    """

    left: int
    top: int
    down: int
    line: Flags


class Packing:
    """Packs masks of one image, many at a time."""

    def __init__(self, height: int, width: int) -> None:
        self._size = height, width
        self._parts, self._pixels = list[_Part](), 0
        self._runs, self._areas = list[bytes](), list[int]()

    def add(self, columns: Flags, left: int, top: int) -> None:
        """Add a mask: `columns` `[columns, rows]` is the part of it that lies at `left`, `top`; the rest is empty."""
        across, down = columns.shape
        line = np.zeros(across * (down + 1) + 1, np.bool_)
        line[:-1].reshape(across, down + 1)[:, 1:] = columns
        self._parts.append(_Part(left, top, down, line))
        self._areas.append(int(np.count_nonzero(line)))
        self._pixels += len(line)
        if self._pixels > _AT_ONCE:
            self._pack()

    def masks(self) -> Masks:
        """Those that were added."""
        self._pack()
        return Masks(*self._size, tuple(self._runs), np.array(self._areas, np.float64))

    def _pack(self) -> None:
        if self._parts:
            self._runs += _packed(self._parts, *self._size)
        self._parts, self._pixels = [], 0


def _packed(parts: Sequence[_Part], height: int, width: int) -> Iterator[bytes]:
    """The packed run lengths of each mask."""
    line = np.concatenate([part.line for part in parts])
    ends = np.cumsum([len(part.line) for part in parts])
    changes = np.flatnonzero(line[1:] != line[:-1])  # none where a mask ends and the next begins
    which = np.searchsorted(ends, changes, side="right")
    left, top, down = (
        np.array(values)[which]
        for values in zip(*((part.left, part.top, part.down) for part in parts), strict=True)
    )
    starts = np.concatenate([[0], ends[:-1]])
    column, row = np.divmod(changes - starts[which], down + 1)
    places = (left + column) * height + top + row
    # A run that goes on from the foot of a column to the head of the next ends and starts at the same place.
    again = np.flatnonzero((places[1:] == places[:-1]) & (which[1:] == which[:-1]))
    kept = np.ones(len(places), np.bool_)
    kept[again] = kept[again + 1] = False
    places, which = places[kept], which[kept]
    counts = np.bincount(which, minlength=len(parts))
    last = np.cumsum(counts + 2) - 1
    edges = np.zeros(
        last[-1] + 1, np.int64
    )  # of each mask: 0, where runs end, and the number of pixels
    edges[np.arange(len(places)) + 2 * which + 1] = places
    edges[last] = height * width
    lengths = np.diff(edges).tolist()
    for start, end in zip((last - counts - 1).tolist(), last.tolist(), strict=True):
        runs = lengths[start : end if lengths[end - 1] or end == start + 1 else end - 1]
        text: str = mask_api.RLE(height, width, len(runs), runs).toString()
        yield text.encode("ascii")
