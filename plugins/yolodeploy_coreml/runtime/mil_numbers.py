"""The number formats of MIL in torch: conversions between them, and the steps of a scale that quantized values are."""

from __future__ import annotations

import torch
from torch import Tensor

# Torch computes little in uint16; see `cast`.
_DTYPES = {
    "bool": torch.bool,
    "fp16": torch.float32,  # half precision is a rounding of the result; see executor.py
    "fp32": torch.float32,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "uint16": torch.int32,
}
_UINT16 = 0xFFFF
_INTEGER_RANGE = {"int8": (-128, 127), "uint8": (0, 255)}


def cast(x: Tensor, dtype: str) -> Tensor:
    """A conversion as in C: fractions are cut off, and integers that do not fit wrap around."""
    if dtype == "uint16":
        return (x.long() & _UINT16).to(_DTYPES[dtype])
    return x.to(_DTYPES[dtype])


def _along(parameter: Tensor, x: Tensor, axis: Tensor | None) -> Tensor:
    if parameter.dim() == 0 or axis is None:
        return parameter
    shape = [1] * x.dim()
    shape[int(axis)] = -1
    return parameter.reshape(shape)


def quantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    """Steps of a scale, rounded to even, as integers."""
    steps = torch.round(input / _along(scale, input, axis))
    if zero_point is not None:
        steps += _along(zero_point, input, axis)
    return steps.clamp(*_INTEGER_RANGE[output_dtype]).to(_DTYPES[output_dtype])


def dequantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    """What steps of a scale stand for, in fp32."""
    wide = input.to(torch.float32)
    if zero_point is not None:
        wide = wide - _along(zero_point, input, axis).to(torch.float32)
    return wide * _along(scale, input, axis)
