"""The MIL operations of YOLO models, computed in torch.

A function takes an operation's inputs under their MIL names: tensors (constants too), strings
or lists of tensors. Semantics and defaults: the "MIL Ops" reference of coremltools 9. A program with
an operation that is not here is refused, never approximated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy_coreml.runtime.mil_numbers import cast, dequantize, quantize

Sides = list[tuple[int, int]]  # padding before and after, per spatial axis


def _ints(value: Tensor | None) -> list[int]:
    return [] if value is None else [int(item) for item in value.reshape(-1).tolist()]


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
) -> Tensor:
    sides = padding(pad_type, pad)
    amount = [before for before, _ in sides]
    if any(before != after for before, after in sides):
        x, amount = _padded(x, sides, 0.0), [0, 0]
    stride, dilation = _ints(strides) or 1, _ints(dilations) or 1
    return functional.conv2d(x, weight, bias, stride, amount, dilation, int(groups))


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | int = 1,
    *,
    output_shape: Tensor | None = None,
) -> Tensor:
    sides = padding(pad_type, pad)
    if any(before != after for before, after in sides):
        raise ValueError("a transposed convolution with uneven padding is not known here")
    stride, dilation = _ints(strides) or 1, _ints(dilations) or 1
    amount = [before for before, _ in sides]
    result = functional.conv_transpose2d(x, weight, bias, stride, amount, 0, int(groups), dilation)
    if output_shape is not None and _ints(output_shape) != list(result.shape):
        raise ValueError(f"its result would be {list(result.shape)}, not {_ints(output_shape)}")
    return result


def _max_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    if bool(ceil_mode):
        raise ValueError("ceil_mode is not known here")
    padded = _padded(x, padding(pad_type, pad), -math.inf)
    return functional.max_pool2d(padded, _ints(kernel_sizes), _ints(strides) or 1)


def _avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    exclude_padding_from_average: Tensor | bool = False,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    if bool(ceil_mode):
        raise ValueError("ceil_mode is not known here")
    sides, window = padding(pad_type, pad), (_ints(kernel_sizes), _ints(strides) or 1)
    average = functional.avg_pool2d(_padded(x, sides, 0.0), *window)
    if bool(exclude_padding_from_average):
        average = average / functional.avg_pool2d(_padded(torch.ones_like(x), sides, 0.0), *window)
    return average


def padding(kind: str, pad: Tensor | None) -> Sides:
    """Return the padding that MIL's `pad_type` and `pad` ask for."""
    if kind == "custom" and pad is not None:
        return _sides(pad)
    if kind != "valid":
        raise ValueError(f"padding of type {kind} is not known here")
    return [(0, 0), (0, 0)]


def _sides(pad: Tensor) -> Sides:
    flat = _ints(pad)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _padded(x: Tensor, sides: Sides, value: float) -> Tensor:
    return functional.pad(x, [amount for pair in reversed(sides) for amount in pair], value=value)


def _pad(
    x: Tensor, pad: Tensor, constant_val: Tensor | float = 0.0, mode: str = "constant"
) -> Tensor:
    if mode != "constant":
        raise ValueError(f"padding mode {mode} is not known here")
    return _padded(x, _sides(pad), float(constant_val))


def _concat(values: list[Tensor], axis: Tensor, interleave: Tensor | bool = False) -> Tensor:
    if bool(interleave):
        raise ValueError("interleaving is not known here")
    return torch.cat(values, int(axis))


def _split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, _ints(split_sizes), int(axis))
    if num_splits is None:
        raise ValueError("split needs split_sizes or num_splits")
    return torch.split(x, x.shape[int(axis)] // int(num_splits), int(axis))


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    steps, none = _ints(stride) or [1] * x.dim(), [0] * x.dim()
    squeezed = [axis for axis, drop in enumerate(_ints(squeeze_mask)) if drop]
    masks = _ints(begin_mask) or none, _ints(end_mask) or none
    rows = zip(_ints(begin), _ints(end), steps, *masks, strict=True)
    for axis, (first, last, step, from_start, to_end) in enumerate(rows):
        if axis in squeezed:
            x = x.narrow(axis, first % x.shape[axis], 1)
            continue
        chosen = slice(None if from_start else first, None if to_end else last, step)
        span = range(*chosen.indices(x.shape[axis]))
        if step == 1:
            x = x.narrow(axis, span.start, len(span))
        else:
            x = x.index_select(axis, torch.tensor(list(span), dtype=torch.int64))
    return x.squeeze(tuple(squeezed)) if squeezed else x


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(_ints(shape))])


def _expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.dim() + axes.numel()
    for axis in sorted(axis % rank for axis in _ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


def _matmul(
    x: Tensor, y: Tensor, transpose_x: Tensor | bool = False, transpose_y: Tensor | bool = False
) -> Tensor:
    return (x.mT if bool(transpose_x) else x) @ (y.mT if bool(transpose_y) else y)


def _top_k(
    x: Tensor,
    k: Tensor | int = 1,
    axis: Tensor | int = -1,
    ascending: Tensor | bool = False,
    sort: Tensor | bool = True,  # noqa: ARG001 - without it any order is right, a sorted one too
    return_indices: Tensor | bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """The first of equal values wins: MIL leaves that open, and results must not vary."""
    values, indices = x.sort(dim=int(axis), descending=not bool(ascending), stable=True)
    best, places = (found.narrow(int(axis), 0, int(k)) for found in (values, indices))
    return (best, cast(places, output_indices_dtype)) if bool(return_indices) else (best,)


def _gather_along_axis(
    x: Tensor,
    indices: Tensor,
    axis: Tensor | int = 0,
    validate_indices: Tensor | bool = False,  # noqa: ARG001 - torch always refuses a wrong one
) -> Tensor:
    places = indices.long()
    return x.gather(int(axis), torch.where(places < 0, places + x.shape[int(axis)], places))


def _axes(axes: Tensor | None, x: Tensor) -> list[int]:
    return list(range(x.dim())) if axes is None else _ints(axes)


def _upsample(
    x: Tensor, scale_factor_height: Tensor | float = 1, scale_factor_width: Tensor | float = 1
) -> Tensor:
    factors = [float(scale_factor_height), float(scale_factor_width)]
    return functional.interpolate(x, scale_factor=factors, mode="nearest")


_MOVES: Mapping[str, Callable[..., Any]] = {
    "concat": _concat,
    "expand_dims": _expand_dims,
    "gather_along_axis": _gather_along_axis,
    "max_pool": _max_pool,
    "reshape": _reshape,
    "slice_by_index": _slice_by_index,
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda values, axis: torch.stack(values, int(axis)),
    "tile": lambda x, reps: x.repeat(_ints(reps)),
    "topk": _top_k,
    "transpose": lambda x, perm: x.permute(_ints(perm)),
    "upsample_nearest_neighbor": _upsample,
}
# Operations that only move values, so that their results need no rounding to fp16.
MOVES = frozenset(_MOVES)
OPS: Mapping[str, Callable[..., Any]] = {
    **_MOVES,
    "add": lambda x, y: x + y,
    "avg_pool": _avg_pool,
    "cast": cast,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "cos": lambda x: x.cos(),
    "dequantize": dequantize,
    "floor_div": lambda x, y: x.div(y, rounding_mode="floor"),
    "leaky_relu": lambda x, alpha=0.01: functional.leaky_relu(x, float(alpha)),
    "linear": lambda x, weight, bias=None: functional.linear(x, weight, bias),
    "matmul": _matmul,
    "mul": lambda x, y: x * y,
    "pad": _pad,
    "quantize": quantize,
    "real_div": lambda x, y: x / y,
    "reduce_max": lambda x, axes=None, keep_dims=False: x.amax(_axes(axes, x), bool(keep_dims)),
    "reduce_mean": lambda x, axes=None, keep_dims=False: x.mean(_axes(axes, x), bool(keep_dims)),
    "reduce_sum": lambda x, axes=None, keep_dims=False: x.sum(_axes(axes, x), bool(keep_dims)),
    "relu": lambda x: x.relu(),
    "sigmoid": lambda x: x.sigmoid(),
    "exp": lambda x: x.exp(),
    "silu": lambda x: functional.silu(input=x),
    "softmax": lambda x, axis=-1: x.softmax(int(axis)),
    "sin": lambda x: x.sin(),
    "sub": lambda x, y: x - y,
}
