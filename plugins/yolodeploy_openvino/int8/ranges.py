"""Choosing the range of every quantizer of an activation: where the squared error is least.

NNCF places the quantizers, with ranges that hold every value it saw. A wide range rounds coarsely, a narrow
one cuts off; this moves the ends of each range inwards to where both together cost least on the
calibration images. NNCF's own default, the mean over images of their lowest and highest value, cuts off
what only some images show, and in narrow models that is what they are recognised by: docs/decisions/011.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino import layers
from yolodeploy_openvino.graph import sources
from yolodeploy_openvino.int8.observe import observe
from yolodeploy_openvino.toolchain import openvino

_BINS = 1024
_SIDE = 80  # of a map: more rows and columns say the same
_FRACTIONS = 2.0 ** (-np.arange(25) / 6)  # of an end of the range, down to a sixteenth
_ROUNDS = 2  # of moving one end, then the other

_Wide = NDArray[np.float64]


@dataclass
class _Group:
    """Quantizers that must share a range, because one convolution reads the values of all.

    `low` and `high` `[channels]` hold every value (one channel if all of a map share a range); `counts`
    `[channels, bins]` of values lie evenly between them.
    """

    quantizers: list[Any]
    low: _Wide
    high: _Wide
    counts: _Wide = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((len(self.low), _BINS))

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one map."""
        channels = len(self.low)
        axis = _axis(self.quantizers[0])
        flat = np.moveaxis(values, axis, 0).reshape(channels, -1)
        low, high = (ends.astype(np.float32)[:, None] for ends in (self.low, self.high))
        bins = (
            ((flat - low) / (np.maximum(high - low, 1e-12) / _BINS))
            .astype(np.int32)
            .clip(0, _BINS - 1)
        )
        bins += _BINS * np.arange(channels, dtype=np.int32)[:, None]
        self.counts += np.bincount(bins.ravel(), minlength=self.counts.size).reshape(
            self.counts.shape
        )

    def best(self, steps: int, *, symmetric: bool) -> tuple[_Wide, _Wide]:
        """The ends `[channels]` with the least squared error; `symmetric` keeps their ratio."""
        low, high = self.low, self.high
        for _ in range(1 if symmetric else _ROUNDS):
            if symmetric:
                low, high = self._least([(low * part, high * part) for part in _FRACTIONS], steps)
            else:
                low, high = self._least([(low, self.high * part) for part in _FRACTIONS], steps)
                low, high = self._least([(self.low * part, high) for part in _FRACTIONS], steps)
        return low, high

    def _least(self, ends: list[tuple[_Wide, _Wide]], steps: int) -> tuple[_Wide, _Wide]:
        errors = np.array([self._error(*layers.with_zero(*each, steps), steps) for each in ends])
        best = errors.argmin(0)  # the widest of equals
        chosen = np.array(ends)[best, :, np.arange(len(best))]
        return chosen[:, 0], chosen[:, 1]

    def _error(self, low: _Wide, high: _Wide, steps: int) -> _Wide:
        """The summed squared error `[channels]` of the values counted, rounded between these ends."""
        middles = (np.arange(_BINS) + 0.5) / _BINS
        values = self.low[:, None] + (self.high - self.low)[:, None] * middles
        step = (high - low)[:, None] / steps
        level = np.rint((values - low[:, None]) / step).clip(0, steps)
        error = low[:, None] + level * step - values
        total: _Wide = np.einsum("cb,cb->c", self.counts, error * error)
        return total


def fit_ranges(
    model: Any, exact: Any, images: Iterable[NDArray[np.float32]], threads: int, *, symmetric: bool
) -> None:
    """Narrow the ranges of the quantizers of `model` in place.

    `exact` is the float model that it was made from, `images` are for its input; `symmetric` if ranges
    must reach as far below 0 as above.
    """
    groups = _groups(model)
    nodes = {node.get_friendly_name(): node for node in exact.get_ops()}
    owners = [(group, each) for group in groups for each in group.quantizers]
    outputs = [_sampled(_original(each, nodes)) for _, each in owners]
    for values in observe(outputs, exact.get_parameters(), images, threads):
        for (group, _), value in zip(owners, values, strict=True):
            group.add(value)
    for group in groups:
        steps = int(group.quantizers[0].get_attributes()["levels"]) - 1
        best = group.best(steps, symmetric=symmetric)
        for quantizer in group.quantizers:
            layers.set_ends(quantizer, *best)


def _groups(model: Any) -> list[_Group]:
    """The quantizers of activations whose range holds 0, those that must be equal together."""
    readers: dict[str, set[str]] = {}
    nodes: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        if _rounds_activations(node):
            nodes[node.get_friendly_name()] = node
            readers[node.get_friendly_name()] = layers.readers(node, layers.MOVING)
    groups: list[_Group] = []
    while nodes:
        names = [next(iter(nodes))]
        for name in names:  # grows
            names += [
                other for other in nodes if other not in names and (readers[other] & readers[name])
            ]
        members = [nodes.pop(name) for name in names]
        low, high = layers.ends(members[0])
        if (low <= 0).all() and (high > 0).all():
            groups.append(_Group(members, low.astype(np.float64), high.astype(np.float64)))
    return groups


def _axis(quantizer: Any) -> int:
    """The axis along which the ranges of a quantizer differ; 0 if there is one range."""
    shape = list(sources(quantizer)[1].get_output_shape(0))
    wide = [axis - len(shape) for axis, size in enumerate(shape) if size > 1]
    return wide[0] if wide else 0


def _rounds_activations(node: Any) -> bool:
    if node.get_type_name() != "FakeQuantize":
        return False
    source = sources(node)[0].get_type_name()
    return source not in ("Constant", "Convert")


def _original(quantizer: Any, nodes: dict[str, Any]) -> Any:
    """The output of the float model that a quantizer rounds."""
    port = quantizer.input_value(0)
    while port.get_node().get_type_name() == "FakeQuantize":
        port = port.get_node().input_value(0)
    return nodes[port.get_node().get_friendly_name()].output(port.get_index())


def _sampled(output: Any) -> Any:
    """Evenly spaced rows and columns of a map, at most so many."""
    shape = list(output.get_shape())
    if len(shape) != len("NCHW") or max(shape[2:]) <= _SIDE:
        return output
    ops = openvino().opset13
    strides = [-(-side // _SIDE) for side in shape[2:]]
    return ops.slice(output, [0, 0], shape[2:], strides, [2, 3]).output(0)
