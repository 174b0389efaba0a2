"""The levels at which maps are held in 8 bits: from statistics of the maps, or learned in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yolodeploy.compress import Range, Ranges
from yolodeploy_onnxruntime.int8.calibrate import Statistics
from yolodeploy_onnxruntime.structure import MOVING, Structure

Method = Literal["mse", "percentile", "minmax"]
_STEPS = 255
_SHARE = 1e-4  # of the values that `percentile` cuts off
_WIDTHS = np.geomspace(1.0, 0.25, 25)  # of the range that cuts off nothing
_MOST = 1 << 16  # samples by which a range is chosen
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """256 levels: value = (level - `zero`) * `scale`, with levels from 0 to 255."""

    scale: np.float32
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Grid:
        """The grid from `low` to `high`, extended to hold 0, which is one of its levels."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max((high - low) / _STEPS, 1e-9))
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, _STEPS)))

    def round(self, values: _Floats) -> _Floats:
        """The nearest levels, as values."""
        levels = np.clip(np.rint(values / self.scale) + self.zero, 0, _STEPS)
        return np.asarray((levels - self.zero) * self.scale, np.float32)


_GATE = Grid.of(0.0, 1.0)


def groups(structure: Structure, *, sums: bool) -> dict[str, str]:
    """The value whose grid each value has: those that an operator moves are held at the same levels.

    With `sums` so are those that are added, as they are in training.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while name in parents:
            name = parents[name]
        return name

    for node in structure.lookup.nodes:
        maps = structure.maps(node)
        joined = node.op_type in MOVING or (sums and node.op_type == "Add" and len(maps) == 2)
        if joined and maps and not structure.decodes(node):
            for value in (*maps[1:], *node.output):
                if root(value) != root(maps[0]):
                    parents[root(value)] = root(maps[0])
    values = {value for node in structure.lookup.nodes for value in (*node.input, *node.output)}
    return {value: root(value) for value in sorted(values)}


def calibrated(
    structure: Structure, found: Mapping[str, Statistics], method: Method
) -> dict[str, Grid]:
    """The grid of every value of which there are statistics."""
    shared, together = groups(structure, sums=False), dict[str, list[Statistics]]()
    for value, statistics in found.items():
        together.setdefault(shared[value], []).append(statistics)
    made = {name: _chosen(members, method) for name, members in together.items()}
    return {value: made[shared[value]] for value in found} | _gates(structure, found)


def learned(structure: Structure, ranges: Ranges) -> dict[str, Grid]:
    """The grids that training has learned, of all values that have one."""
    shared = groups(structure, sums=True)
    found: dict[str, Grid] = {}
    for name, limits in ranges.reads.items():
        found[shared[structure.convolutions[name].input[0]]] = _grid(limits)
    grids = {value: found[group] for value, group in shared.items() if group in found}
    for name, limits in ranges.makes.items():
        made = structure.convolutions[name].output[0]
        if shared[made] not in found:
            grids[made] = _grid(limits)
    return grids | _gates(structure, grids)


def _gates(structure: Structure, known: Iterable[str]) -> dict[str, Grid]:
    """The grids of sigmoids, whose range needs no images."""
    inside = set(known)
    return {
        node.output[0]: _GATE
        for node in structure.lookup.nodes
        if node.op_type == "Sigmoid" and node.input[0] in inside
    }


def _grid(limits: Range) -> Grid:
    """The grid of a learned range, which may have more levels below 0 than above."""
    scale = (limits.high - limits.low) / _STEPS
    return Grid(np.float32(scale), int(np.clip(round(-limits.low / scale), 0, _STEPS)))


def _chosen(members: list[Statistics], method: Method) -> Grid:
    low, high = min(each.low for each in members), max(each.high for each in members)
    if method == "minmax":
        return Grid.of(low, high)
    samples = np.concatenate([each.samples for each in members])
    if method == "percentile":
        ends = np.quantile(samples, (_SHARE / 2, 1 - _SHARE / 2))
        return Grid.of(*map(float, ends))
    samples = samples[:: max(len(samples) // _MOST, 1)]
    high = _best(high, samples, lambda end: Grid.of(low, end))
    low = _best(low, samples, lambda end: Grid.of(end, high))
    return Grid.of(low, high)


def _best(end: float, samples: _Floats, grid_of: object) -> float:
    """The end of a range, moved inwards to where rounding has the least squared error."""
    assert callable(grid_of)  # noqa: S101
    ends = [end * width for width in _WIDTHS] if end else [end]
    errors = [float(np.square(grid_of(e).round(samples) - samples).sum()) for e in ends]
    return ends[int(np.argmin(errors))]
