"""What the activations of a program hold, over calibration images run through the executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy_coreml.executor import Program
from yolodeploy_coreml.graph import block_of
from yolodeploy_coreml.ranges import Histogram
from yolodeploy_coreml.values import shape_of

if TYPE_CHECKING:
    from yolodeploy.dataset import Dataset
    from yolodeploy_coreml.package import Package

Floats = NDArray[np.float64]

_ELEMENTWISE = frozenset({"add", "cast", "mul", "real_div", "sub"})
_PASSED_ON = frozenset({"max_pool", "silu", "upsample_nearest_neighbor"})


def observe(
    package: Package,
    names: Iterable[str],
    weights: Mapping[str, Floats],
    images: Dataset,
    imgsz: int,
    progress: Callable[[float, str], None],
) -> dict[str, Histogram]:
    """Histograms of the values `names`, filled image by image.

    `weights` are those of all convolutions `[out, in / groups, height, width]` by the name of
    their output. What is computed from the pixels alone is held to all that pixels can be, not
    to what the images happen to show.
    """
    block = block_of(package.spec)
    importance = Importance(block, weights)
    found = {name: Histogram(importance.of(name)) for name in names}
    program = Program(package)
    pixels = _from_pixels(block, program.input)

    def watch(name: str, value: Tensor) -> None:
        if name in found:
            found[name].add(value)

    def extremes(name: str, value: Tensor) -> None:
        if name in pixels and name in found:
            found[name].fix(float(value.min()), float(value.max()))

    for level in (0.0, 255.0):
        program(torch.full(program.shape, level), extremes)
    for number, image in enumerate(images.letterboxed(imgsz)):
        progress(number / len(images), f"{number}/{len(images)} calibration images")
        program(torch.from_numpy(image) * 255, watch)
    return found


class Importance:
    """How much an error in each channel of a value matters: the energy of the weights that read it.

    Counted back from the convolutions through what passes channels on (activation functions,
    pooling, concatenation, splitting, sums), their slopes taken as 1.
    """

    def __init__(self, block: Any, weights: Mapping[str, Floats]) -> None:
        shapes = {
            o.name: shape_of(o.type.tensorType) for op in block.operations for o in op.outputs
        }
        self._channels = {name: shape[1] for name, shape in shapes.items() if len(shape) == 4}
        self._weights = weights
        self._found: dict[str, Floats] = {}
        for op in reversed(block.operations):
            for name, share in self._shares(op):
                self._found[name] = self._found.get(name, 0.0) + share

    def of(self, name: str) -> Floats:
        """The importance of each channel; alike where no convolution reads the value."""
        found = self._found.get(name)
        return np.ones(self._channels[name]) if found is None or not found.any() else found

    def _shares(self, op: Any) -> Iterator[tuple[str, Floats]]:
        """What the operands of one operation get from its result."""
        out = op.outputs[0].name
        if op.type == "conv" and out in self._weights:
            yield _operand(op, "x"), self._energy(_operand(op, "x"), self._weights[out])
        elif op.type in _PASSED_ON and out in self._found:
            yield _operand(op, "x"), self._found[out]
        elif op.type == "add" and out in self._found:
            yield _operand(op, "x"), self._found[out]
            yield _operand(op, "y"), self._found[out]
        elif op.type == "concat" and out in self._found:
            start = 0
            for binding in op.inputs["values"].arguments:
                stop = start + self._channels[binding.name]
                yield binding.name, self._found[out][start:stop]
                start = stop
        elif op.type == "split" and any(part.name in self._found for part in op.outputs):
            nothing = {part.name: np.zeros(self._channels[part.name]) for part in op.outputs}
            parts = {**nothing, **self._found}
            yield _operand(op, "x"), np.concatenate([parts[part.name] for part in op.outputs])

    def _energy(self, read: str, weight: Floats) -> Floats:
        groups = self._channels[read] // weight.shape[1]
        grouped = np.square(weight).reshape(groups, -1, *weight.shape[1:])
        energy: Floats = grouped.sum((1, 3, 4)).reshape(-1)
        return energy


def _operand(op: Any, key: str) -> str:
    return str(op.inputs[key].arguments[0].name)


def _from_pixels(block: Any, image: str) -> frozenset[str]:
    """The values that are computed from the image, element by element, before any convolution."""
    found, constant = {image}, {op.outputs[0].name for op in block.operations if op.type == "const"}
    for op in block.operations:
        read = {b.name for argument in op.inputs.values() for b in argument.arguments if b.name}
        if op.type in _ELEMENTWISE and read - constant <= found:
            found.update(out.name for out in op.outputs)
    return frozenset(found)
