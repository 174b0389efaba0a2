"""The MIL operations of YOLO detectors, in torch.

A function takes an operation's inputs under their MIL names: tensors (constants too), strings
or lists of tensors. Semantics and defaults: the "MIL Ops" reference of coremltools 9. What a
program needs and this table lacks is refused by name, never approximated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Pairs = list[tuple[int, int]]

_DTYPES = {
    "bool": torch.bool,
    "fp16": torch.float32,  # half precision is a rounding of the result; see executor.py
    "fp32": torch.float32,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "uint8": torch.uint8,
}
_INTEGER_RANGE = {"int8": (-128, 127), "uint8": (0, 255)}


def _ints(value: Tensor) -> list[int]:
    return [int(item) for item in value.reshape(-1).tolist()]


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
    pairs = padding(pad_type, pad)
    amount = [before for before, _ in pairs]
    if any(before != after for before, after in pairs):
        x, amount = _padded(x, pairs, 0.0), [0, 0]
    stride = 1 if strides is None else _ints(strides)
    dilation = 1 if dilations is None else _ints(dilations)
    return functional.conv2d(x, weight, bias, stride, amount, dilation, int(groups))


def _max_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    ceil_mode: Tensor | bool = False,
) -> Tensor:
    if bool(ceil_mode):
        raise ValueError("ceil_mode is not known")
    padded = _padded(x, padding(pad_type, pad), -math.inf)
    return functional.max_pool2d(
        padded, _ints(kernel_sizes), 1 if strides is None else _ints(strides)
    )


def padding(kind: str, pad: Tensor | None) -> Pairs:
    """Return (before, after) per spatial axis."""
    if kind == "custom" and pad is not None:
        return _pairs(pad)
    if kind != "valid":
        raise ValueError(f"padding of the kind {kind} is not known")
    return [(0, 0), (0, 0)]


def _pairs(pad: Tensor) -> Pairs:
    flat = _ints(pad)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _padded(x: Tensor, pairs: Pairs, value: float) -> Tensor:
    return functional.pad(x, [side for pair in reversed(pairs) for side in pair], value=value)


def _pad(
    x: Tensor, pad: Tensor, constant_val: Tensor | float = 0.0, mode: str = "constant"
) -> Tensor:
    if mode != "constant":
        raise ValueError(f"padding mode {mode} is not known")
    return _padded(x, _pairs(pad), float(constant_val))


def _concat(values: list[Tensor], axis: Tensor, interleave: Tensor | bool = False) -> Tensor:
    if bool(interleave):
        raise ValueError("interleaving is not known")
    return torch.cat(values, int(axis))


def _split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return torch.split(x, _ints(split_sizes), int(axis))
    if num_splits is None:
        raise ValueError("neither sizes nor a number of parts are given")
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
    def flags(mask: Tensor | None) -> list[int]:
        return [0] * x.dim() if mask is None else _ints(mask)

    steps = [1] * x.dim() if stride is None else _ints(stride)
    squeezed = [axis for axis, drop in enumerate(flags(squeeze_mask)) if drop]
    rows = zip(_ints(begin), _ints(end), steps, flags(begin_mask), flags(end_mask), strict=True)
    for axis, (first, last, step, from_start, to_end) in enumerate(rows):
        if axis in squeezed:
            x = x.narrow(axis, first % x.shape[axis], 1)
            continue
        chosen = slice(None if from_start else first, None if to_end else last, step)
        span = range(*chosen.indices(x.shape[axis]))
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


def _upsample(
    x: Tensor, scale_factor_height: Tensor | float = 1, scale_factor_width: Tensor | float = 1
) -> Tensor:
    factors = [float(scale_factor_height), float(scale_factor_width)]
    return functional.interpolate(x, scale_factor=factors, mode="nearest")


def _along(parameter: Tensor, x: Tensor, axis: Tensor | None) -> Tensor:
    if parameter.dim() == 0 or axis is None:
        return parameter
    shape = [1] * x.dim()
    shape[int(axis)] = -1
    return parameter.reshape(shape)


def _quantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    steps = torch.round(input / _along(scale, input, axis))
    if zero_point is not None:
        steps += _along(zero_point, input, axis)
    return steps.clamp(*_INTEGER_RANGE[output_dtype]).to(_DTYPES[output_dtype])


def _dequantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    wide = input.to(torch.float32)
    if zero_point is not None:
        wide = wide - _along(zero_point, input, axis).to(torch.float32)
    return wide * _along(scale, input, axis)


def _binary(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    # torch calls its operands `input` and `other`; MIL's are named x and y.
    def named(x: Tensor, y: Tensor) -> Tensor:
        return run(x, y)

    return named


def _unary(run: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def named(x: Tensor) -> Tensor:
        return run(x)

    return named


OPS: Mapping[str, Callable[..., Any]] = {
    "add": _binary(torch.add),
    "cast": lambda x, dtype: x.to(_DTYPES[dtype]),
    "concat": _concat,
    "conv": _conv,
    "dequantize": _dequantize,
    "expand_dims": _expand_dims,
    "max_pool": _max_pool,
    "mul": _binary(torch.mul),
    "pad": _pad,
    "quantize": _quantize,
    "real_div": _binary(torch.div),
    "relu": _unary(torch.relu),
    "reshape": _reshape,
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(functional.silu),
    "slice_by_index": _slice_by_index,
    "softmax": lambda x, axis=-1: x.softmax(int(axis)),
    "split": _split,
    "squeeze": _squeeze,
    "sub": _binary(torch.sub),
    "transpose": lambda x, perm: x.permute(_ints(perm)),
    "upsample_nearest_neighbor": _upsample,
}

# Operations that only move values: their results are of the type already.
MOVES = frozenset(
    {
        "concat",
        "expand_dims",
        "max_pool",
        "reshape",
        "slice_by_index",
        "split",
        "squeeze",
        "transpose",
        "upsample_nearest_neighbor",
    }
)
