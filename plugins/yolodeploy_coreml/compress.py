"""The steps `palettize` and `quantize_weights`: smaller weights, computed with as fp16 or fp32.

Core ML expands the weights with `constexpr_lut_to_dense` (a table and an index per weight) or
`constexpr_affine_dequantize` (an 8-bit number, a scale and a zero point per channel), or with
their iOS 18 forms. Format: the reference of these MIL operations in coremltools 9.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from yolodeploy.codebook import balance, kmeans, nearest, uniform
from yolodeploy.errors import StepFailed
from yolodeploy_coreml.package import PACKAGE, read_package, write_package
from yolodeploy_coreml.program import Editor, Encoded, Floats, Operand

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context
    from yolodeploy.transforms import Params
    from yolodeploy_coreml.params import Palettize

_Encode = Callable[[NDArray[Any]], Encoded]
_TYPES = {2: "FLOAT16", 4: "FLOAT32"}


def run_palettize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Give each convolution in front of the decoder a table of 2**bits values."""
    options = cast("Palettize", params)
    editor = Editor(read_package(artifact.path / PACKAGE))

    def encode(weight: NDArray[Any]) -> Encoded:
        return _palette(weight, options, ios18=editor.is_ios18)

    return _compressed(editor, encode, f"{options.bits}-bit palettes", context)


def run_quantize_weights(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001 - it has none
    """Store convolutions in front of the decoder as int8 with a scale and zero point per channel."""
    editor = Editor(read_package(artifact.path / PACKAGE))

    def encode(weight: NDArray[Any]) -> Encoded:
        return _affine(weight, ios18=editor.is_ios18)

    return _compressed(editor, encode, "int8 weights", context)


def _compressed(editor: Editor, encode: _Encode, what: str, context: Context) -> Path:
    weights = context.work / "weights"
    weights.mkdir()
    if not editor.compress(encode, weights, context.progress):
        raise StepFailed("no float weights are left that this makes smaller. Remove the step.")
    editor.spec.description.metadata.shortDescription += f", {what}"
    result = context.work / "artifact"
    write_package(result / PACKAGE, editor.spec, weights)
    return result


def _palette(weight: NDArray[Any], options: Palettize, *, ios18: bool) -> Encoded:
    entries = 1 << options.bits
    wide: Floats = weight.astype(np.float32)
    if options.mode == "kmeans":
        table = kmeans(wide, entries, balance(wide)).values
    else:
        table = uniform(wide, entries).values
    codebook = nearest(wide, table.astype(weight.dtype))  # to what is stored, not what was wanted
    values = codebook.values.astype(weight.dtype)
    packed, padding = _packed(codebook.indices, options.bits)
    kind = _TYPES[weight.dtype.itemsize]
    if ios18:
        indices = Operand(f"UINT{options.bits}", weight.shape, packed, padding_bits=padding)
        shape = (1,) * weight.ndim + (entries, 1)
        operands = {"indices": indices, "lut": Operand(kind, shape, values.tobytes())}
    else:
        operands = {
            "indices": Operand("UINT8", (len(packed),), packed),
            "lut": Operand(kind, (entries,), values.tobytes()),
            "shape": Operand("UINT32", (weight.ndim,), np.array(weight.shape, "<u4").tobytes()),
        }
    return Encoded("constexpr_lut_to_dense", operands)


def _packed(indices: NDArray[np.uint8], bits: int) -> tuple[bytes, int]:
    """Indices of `bits` each without gaps, lowest bits first; and the unused bits at the end."""
    rows = np.unpackbits(indices.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(rows, bitorder="little").tobytes(), -rows.size % 8


def _affine(weight: NDArray[Any], *, ios18: bool) -> Encoded:
    """Map each output channel's range, zero included, to -128..127: w = scale * (q - zero)."""
    channels = len(weight)
    rows = weight.reshape(channels, -1).astype(np.float32)
    low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
    scale = ((high - low) / 255).astype(weight.dtype)
    scale[scale == 0] = 1  # a channel of zeros
    wide = scale.astype(np.float32)
    zero = np.clip(np.round(-128 - low / wide), -128, 127)
    steps = np.round(rows / wide[:, None]) + zero[:, None]
    data = np.clip(steps, -128, 127).astype(np.int8).tobytes()
    kind, offset = _TYPES[weight.dtype.itemsize], zero.astype(np.int8).tobytes()
    if ios18:
        shape = (channels,) + (1,) * (weight.ndim - 1)
        operands = {
            "data": Operand("INT8", weight.shape, data),
            "scale": Operand(kind, shape, scale.tobytes()),
            "offset": Operand("INT8", shape, offset),
        }
        return Encoded("constexpr_blockwise_shift_scale", operands)
    operands = {
        "quantized_data": Operand("INT8", weight.shape, data),
        "zero_point": Operand("INT8", (channels,), offset),
        "scale": Operand(kind, (channels,), scale.tobytes()),
        "axis": Operand("INT32", (), np.array(0, "<i4").tobytes()),
    }
    return Encoded("constexpr_affine_dequantize", operands)
