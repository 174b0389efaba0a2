"""Observing a program's activations while the executor runs it on calibration images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy_coreml.activations.ranges import Histogram
from yolodeploy_coreml.mlpackage import MATRIX, block_of, names_read, shape_of
from yolodeploy_coreml.runtime import Program

if TYPE_CHECKING:
    from yolodeploy.backend import Context
    from yolodeploy.data import Dataset
    from yolodeploy_coreml.mlpackage import Package


Floats = NDArray[np.float64]

_FLAT_AXES = 2  # of what a matrix reads: a number per channel
_ELEMENTWISE = frozenset({"add", "cast", "mul", "real_div", "sub"})
_PASSED_ON = frozenset({"avg_pool", "max_pool", "silu", "upsample_nearest_neighbor"})


def observe(
    package: Package,
    names: Iterable[str],
    weights: Mapping[str, Floats],
    images: Dataset,
    context: Context,
) -> dict[str, Histogram]:
    """Fill histograms of the values `names`, image by image.

    `weights` are those of all convolutions `[out, in / groups, height, width]` and matrices `[out, in]` by the name of
    their output. A value that is computed from the pixels alone gets the range of all possible
    pixels, whatever the images show.
    """
    block = block_of(package.spec)
    importance = channel_importance(block, weights)
    found = {name: Histogram(importance[name]) for name in names}
    program = Program(package)
    pixels = _from_pixels(block, program.input)

    def watch(name: str, value: Tensor) -> None:
        if name in found:
            found[name].add(value if value.dim() > _FLAT_AXES else value[..., None, None])

    def extremes(name: str, value: Tensor) -> None:
        if name in pixels and name in found:
            found[name].fix(float(value.min()), float(value.max()))

    for level in (0.0, 255.0):
        program(torch.full(program.shape, level), extremes)
    for number, image in enumerate(images.letterboxed(context.imgsz)):
        context.progress(number / len(images), f"{number}/{len(images)} calibration images")
        program(torch.from_numpy(image) * 255, watch)
    return found


def channel_importance(block: Any, weights: Mapping[str, Floats]) -> dict[str, Floats]:
    """How much an error in each channel of a value matters: the energy of the weights that read it.

    Counted back from the convolutions through what passes channels on (activation functions,
    pooling, concatenation, splitting, sums), as if their slopes were 1. All channels of a value that no
    convolution reads have the importance 1.
    """
    outputs = {out.name: out for op in block.operations for out in op.outputs}
    shapes = {name: shape_of(out.type.tensorType) for name, out in outputs.items()}
    channels = {name: shape[1] for name, shape in shapes.items() if len(shape) in (_FLAT_AXES, 4)}
    found: dict[str, Floats] = {}
    for op in reversed(block.operations):
        for name, share in _shares(op, channels, weights, found):
            found[name] = found.get(name, 0.0) + share
    read = {name: importance for name, importance in found.items() if importance.any()}
    return {name: read.get(name, np.ones(count)) for name, count in channels.items()}


def _shares(
    op: Any, channels: Mapping[str, int], weights: Mapping[str, Floats], found: Mapping[str, Floats]
) -> Iterator[tuple[str, Floats]]:
    """What the operands of one operation get of the importance that its results have."""
    out = op.outputs[0].name
    if op.type == "conv" and out in weights:
        read, weight = _operand(op, "x"), weights[out]
        groups = channels[read] // weight.shape[1]
        grouped = np.square(weight).reshape(groups, -1, *weight.shape[1:])
        yield read, grouped.sum((1, 3, 4)).reshape(-1)
    elif op.type == MATRIX and out in weights:
        yield _operand(op, "x"), np.square(weights[out]).sum(0)
    elif op.type in _PASSED_ON and out in found:
        yield _operand(op, "x"), found[out]
    elif op.type == "add" and out in found:
        yield _operand(op, "x"), found[out]
        yield _operand(op, "y"), found[out]
    elif op.type == "concat" and out in found:
        names = [binding.name for binding in op.inputs["values"].arguments]
        if _of_channels(names, out, channels):
            ends = np.cumsum([channels[name] for name in names])[:-1]
            yield from zip(names, np.split(found[out], ends), strict=True)
    elif op.type == "split" and any(part.name in found for part in op.outputs):
        names = [part.name for part in op.outputs]
        if _of_channels(names, _operand(op, "x"), channels):
            parts = [found.get(name, np.zeros(channels[name])) for name in names]
            yield _operand(op, "x"), np.concatenate(parts)


def _of_channels(parts: Iterable[str], whole: str, channels: Mapping[str, int]) -> bool:
    """Whether the channels of these values, one after the other, are those of `whole`."""
    return whole in channels and sum(channels.get(part, 0) for part in parts) == channels[whole]


def _operand(op: Any, key: str) -> str:
    return str(op.inputs[key].arguments[0].name)


def _from_pixels(block: Any, image: str) -> frozenset[str]:
    """The values that are computed from the image, element by element, before any convolution."""
    found, constant = {image}, {op.outputs[0].name for op in block.operations if op.type == "const"}
    for op in block.operations:
        if op.type in _ELEMENTWISE and names_read(op) - constant <= found:
            found.update(out.name for out in op.outputs)
    return frozenset(found)
