"""Operations that move numbers, and pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from onnx import NodeProto

from yolodeploy_onnx.graph.lowering import Lowered
from yolodeploy_onnx.graph.operations.convolutions import padding, pair
from yolodeploy_onnx.interface import attribute
from yolodeploy_torch.graph import (
    Concat,
    Conv,
    GlobalPool,
    Linear,
    Pool,
    Resize,
    Split,
    Transpose,
    Unsupported,
)

_FAR = 1 << 31
_MAP = 4


def _concat(to: Lowered, node: NodeProto) -> None:
    values = [to.value(name) for name in node.input]
    axis = to.axis(node, 1, len(to.shape(values[0])))
    made = values[0]
    if len(values) > 1:
        made = to.add(Concat(name=to.name_of(node), inputs=tuple(values), axis=axis))
    to.give(node, made)


def pieces(to: Lowered, name: str, value: str, axis: int, sizes: Sequence[int]) -> list[str]:
    """Cut a value into pieces along an axis; one piece is the value itself."""
    if len(sizes) == 1:
        return [value]
    made = Split(name=to.free(name), inputs=(value,), axis=axis, sizes=tuple(sizes))
    to.add(made)
    return list(made.outputs)


def _split(to: Lowered, node: NodeProto) -> None:
    value, count = to.value(node.input[0]), len(node.output)
    shape = to.shape(value)
    axis = to.axis(node, 0, len(shape))
    sizes = to.integers(node, 1, "split")
    if sizes is None:
        step = -(-shape[axis] // count)
        sizes = (*[step] * (count - 1), shape[axis] - step * (count - 1))
    to.give(node, *pieces(to, to.name_of(node), value, axis, sizes))


def _slice(to: Lowered, node: NodeProto) -> None:
    """A piece along each axis; every second row or column of a map is a convolution that picks it."""
    value = to.value(node.input[0])
    starts, ends = to.integers(node, 1, "starts"), to.integers(node, 2, "ends")
    if starts is None or ends is None:
        raise Unsupported("it has no `starts` and `ends`")
    axes = to.integers(node, 3, "axes") or tuple(range(len(starts)))
    steps = to.integers(node, 4, "steps") or (1,) * len(starts)
    name = to.name_of(node)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        shape = to.shape(value)
        place = axis % len(shape)
        length = shape[place]
        first, last = (
            min(max(n + length if n < 0 else n, 0), length) for n in (start, min(end, _FAR))
        )
        if step == 1:
            value = _piece(to, name, value, place, first, last)
        elif (
            step == 2
            and len(shape) == _MAP
            and place > 1
            and first < 2
            and last == length
            and length % 2 == 0
        ):
            value = _every_second(to, name, value, place, first)
        else:
            raise Unsupported(f"steps of {step} are no primitive here")
    to.give(node, value)


def _piece(to: Lowered, name: str, value: str, axis: int, first: int, last: int) -> str:
    length = to.shape(value)[axis]
    if last <= first:
        raise Unsupported("it takes nothing")
    sizes = [first, last - first, length - last]
    found = pieces(to, name, value, axis, [size for size in sizes if size])
    return found[1 if first else 0]


def _every_second(to: Lowered, name: str, value: str, axis: int, first: int) -> str:
    channels = to.shape(value)[1]
    kernel = (2, 1) if axis == 2 else (1, 2)
    made = Conv(
        name=to.free(name),
        inputs=(value,),
        channels=(channels, channels),
        kernel=kernel,
        stride=kernel,
        groups=channels,
    )
    weight = torch.zeros(channels, 1, 2)
    weight[:, :, first] = 1
    return to.add(made, {"weight": weight.reshape(channels, 1, *kernel)})


def _gather(to: Lowered, node: NodeProto) -> None:
    """One place of an axis, or places in a row."""
    value, places = to.value(node.input[0]), to.numbers(node, 1)
    if places is None:
        raise Unsupported("what it takes is computed from the image")
    shape = to.shape(value)
    axis = to.axis(node, 0, len(shape))
    wanted = [int(place) % shape[axis] for place in places.ravel()]
    if not wanted or wanted != list(range(wanted[0], wanted[0] + len(wanted))) or places.ndim > 1:
        raise Unsupported("it takes places that are not in a row")
    name = to.name_of(node)
    found = _piece(to, name, value, axis, wanted[0], wanted[-1] + 1)
    if places.ndim == 0:
        found = to.reshaped(name, found, (*shape[:axis], *shape[axis + 1 :]))
    to.give(node, found)


def _reshape(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    wanted, before = to.integers(node, 1, "shape"), to.shape(value)
    if wanted is None:
        raise Unsupported("its shape is computed from the image")
    keep = not attribute(node, "allowzero", 0)
    sizes = [
        before[i] if size == 0 and keep and i < len(before) else size
        for i, size in enumerate(wanted)
    ]
    to.give(node, to.reshaped(to.name_of(node), value, _complete(sizes, before)))


def _complete(sizes: list[int], before: Sequence[int]) -> tuple[int, ...]:
    """Compute the one size that is -1."""
    total, known = int(np.prod(before)), int(np.prod([size for size in sizes if size != -1]))
    return tuple(total // max(known, 1) if size == -1 else size for size in sizes)


def _flatten(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    shape, axis = to.shape(value), int(attribute(node, "axis", 1))
    sizes = int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))
    to.give(node, to.reshaped(to.name_of(node), value, sizes))


def _squeeze(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    shape, axes = to.shape(value), to.integers(node, 1, "axes")
    dropped = (
        {i for i, n in enumerate(shape) if n == 1}
        if axes is None
        else {a % len(shape) for a in axes}
    )
    sizes = tuple(n for i, n in enumerate(shape) if i not in dropped)
    to.give(node, to.reshaped(to.name_of(node), value, sizes))


def _unsqueeze(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    sizes, axes = list(to.shape(value)), to.integers(node, 1, "axes") or ()
    for axis in sorted(a % (len(sizes) + len(axes)) for a in axes):
        sizes.insert(axis, 1)
    to.give(node, to.reshaped(to.name_of(node), value, tuple(sizes)))


def _transpose(to: Lowered, node: NodeProto) -> None:
    value = to.value(node.input[0])
    count = len(to.shape(value))
    order = tuple(attribute(node, "perm", range(count)[::-1]))
    to.give(node, to.add(Transpose(name=to.name_of(node), inputs=(value,), order=order)))


def _pool(to: Lowered, node: NodeProto) -> None:
    value, kernel, strides = (
        to.value(node.input[0]),
        pair(node, "kernel_shape"),
        pair(node, "strides"),
    )
    margins = padding(node, to.shape(value)[2:], kernel, strides)
    average = node.op_type == "AveragePool"
    if attribute(node, "ceil_mode", 0) and _rounded_up(
        to.shape(value)[2:], kernel, strides, margins
    ):
        raise Unsupported("it rounds sizes up")
    if pair(node, "dilations") != (1, 1) or len(node.output) > 1:
        raise Unsupported("it has dilations or a second output")
    if average and any(margins) and not attribute(node, "count_include_pad", 0):
        raise Unsupported("it averages without its margin")
    made = Pool(
        name=to.name_of(node),
        inputs=(value,),
        kind="average" if average else "max",
        kernel=kernel,
        stride=strides,
        padding=margins,
    )
    to.give(node, to.add(made))


def _rounded_up(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], margins: Sequence[int]
) -> bool:
    """Whether rounding sizes up gives another size than rounding them down."""
    zipped = zip(sizes, kernel, strides, margins, strict=True)
    return any((n + 2 * m - k) % s for n, k, s, m in zipped)


def _mean(to: Lowered, node: NodeProto) -> None:
    """The mean of whole maps."""
    value = to.value(node.input[0])
    shape, axes = to.shape(value), to.integers(node, 1, "axes")
    if node.op_type == "ReduceMean" and (
        len(shape) != _MAP or axes is None or {axis % _MAP for axis in axes} != {2, 3}
    ):
        raise Unsupported("only the mean of whole maps is a primitive")
    name = to.name_of(node)
    found = to.add(GlobalPool(name=name, inputs=(value,)))
    if node.op_type == "ReduceMean" and not attribute(node, "keepdims", 1):
        found = to.reshaped(name, found, shape[:2])
    to.give(node, found)


def _sum(to: Lowered, node: NodeProto) -> None:
    """The sum over an axis: a matrix of ones over the last one."""
    value, axes = to.value(node.input[0]), to.integers(node, 1, "axes")
    shape = to.shape(value)
    if axes is None or len(axes) != 1:
        raise Unsupported("only the sum over one axis is a primitive")
    axis, name = axes[0] % len(shape), to.name_of(node)
    order = [place for place in range(len(shape)) if place != axis]
    if axis != len(shape) - 1:
        made = Transpose(name=to.free(f"{name}.turned"), inputs=(value,), order=(*order, axis))
        value = to.add(made)
    ones = torch.ones(1, shape[axis])
    total = Linear(name=name, inputs=(value,), channels=(shape[axis], 1), bias=False)
    found = to.add(total, {"weight": ones})
    kept = attribute(node, "keepdims", 1)
    sizes = [1 if place == axis else n for place, n in enumerate(shape) if kept or place != axis]
    to.give(node, to.reshaped(f"{name}.sum", found, tuple(sizes)))


def _resize(to: Lowered, node: NodeProto) -> None:
    """Nearest-neighbour resizing by a whole number, in which all rules of rounding agree that are in use."""
    value = to.value(node.input[0])
    if attribute(node, "mode", "nearest") != "nearest":
        raise Unsupported("only nearest-neighbour resizing is a primitive")
    before = to.shape(value)
    place = 1 if node.op_type == "Upsample" else 2
    scales, sizes = to.numbers(node, place), to.numbers(node, 3)
    if sizes is not None:
        factors = [float(s) / b for s, b in zip(sizes.ravel(), before, strict=True)]
    elif scales is not None and scales.size:
        factors = [float(scale) for scale in scales.ravel()]
    else:
        raise Unsupported("its size is computed from the image")
    if len(factors) != _MAP or factors[:2] != [1, 1] or factors[2] != factors[3] or factors[2] % 1:
        raise Unsupported(f"it resizes by {factors}")
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "align_corners":
        raise Unsupported("it aligns corners")
    rule = attribute(node, "nearest_mode", "round_prefer_floor")
    if attribute(node, "coordinate_transformation_mode", "") == "asymmetric" and rule != "floor":
        raise Unsupported(f"it rounds by {rule}")
    made = Resize(name=to.name_of(node), inputs=(value,), scale=int(factors[2]))
    to.give(node, to.add(made))


LOWERINGS = {
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _mean,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Resize": _resize,
    "Upsample": _resize,
}
