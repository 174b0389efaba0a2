"""From MIL values to numpy: literals, `weight.bin` records and compressed weights (`MIL.proto`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mlpackage.operations import operands
from yolodeploy_coreml.mlpackage.package import data_types
from yolodeploy_coreml.mlpackage.weight_file import WeightFiles, unpack

Array = NDArray[Any]
Value = Array | str | list[Any]

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_NUMBERS = ("bool", "float16", "float32", "float64", *_INTEGERS)
_NUMPY = {name.upper(): np.dtype(name).newbyteorder("<") for name in _NUMBERS}
_PACKED_BITS = {"INT4": 4, "UINT1": 1, "UINT2": 2, "UINT3": 3, "UINT4": 4, "UINT6": 6}


class Reader:
    """Turns `MILSpec.Value` messages into arrays, strings or lists."""

    def __init__(self, weights: Path) -> None:
        self.files = WeightFiles(weights)
        self._types = data_types()

    def read(self, value: Any) -> Value:
        """Return a `Value` message's content; StepFailed if it cannot be read."""
        if value.WhichOneof("value") == "blobFileValue":
            blob = value.blobFileValue
            _, _, data = self.files.record(blob.fileName, blob.offset)
            return self._array(value.type.tensorType, data)
        immediate = value.immediateValue
        if immediate.WhichOneof("value") == "list":
            return [self.read(item) for item in immediate.list.values]
        kind = immediate.tensor.WhichOneof("value")
        content = getattr(immediate.tensor, kind).values if kind else b""
        if kind == "strings":
            return str(content[0]) if len(content) == 1 else list(content)
        if isinstance(content, bytes):
            return self._array(value.type.tensorType, content)
        dtype = _NUMPY[self.type_name(value.type.tensorType)]
        return np.array(content, dtype).reshape(shape_of(value.type.tensorType))

    def type_name(self, tensor_type: Any) -> str:
        """Name of a tensor type's element, such as "FLOAT16"."""
        return self._types[tensor_type.dataType]

    def _array(self, tensor_type: Any, data: bytes | Array) -> Array:
        name, shape = self.type_name(tensor_type), shape_of(tensor_type)
        if name in _PACKED_BITS:
            return unpack(data, _PACKED_BITS[name], shape, signed=name == "INT4")
        if name not in _NUMPY:
            raise StepFailed(
                f"a constant of type {name} cannot be evaluated here. Use fp16 or int8."
            )
        return np.frombuffer(data, _NUMPY[name], count=int(np.prod(shape))).reshape(shape)

    def decompress(self, op: Any, constants: Mapping[str, Value]) -> tuple[Array, ...]:
        """Return the results of a decompressing operation; `constants` hold those of earlier ones."""
        arguments = {key: self.read(value) for key, value in operands(op).items()}
        for key, argument in op.inputs.items():
            if key not in arguments:
                arguments[key] = constants[argument.arguments[0].name]
        results: Array | tuple[Array, ...] = CONSTEXPR[op.type](**arguments)
        return results if isinstance(results, tuple) else (results,)


def shape_of(tensor_type: Any) -> tuple[int, ...]:
    """Return a tensor type's constant dimensions."""
    return tuple(dimension.constant.size for dimension in tensor_type.dimensions)


def _affine_dequantize(
    quantized_data: Array, zero_point: Array, scale: Array, axis: Array
) -> Array:
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    return _shift_scale(quantized_data, scale.reshape(shape), zero_point.reshape(shape))


def _shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """(data - offset) * scale; each parameter stands for a block of equal size per axis."""
    wide = data.astype(np.float32)
    if offset is not None:
        wide -= _spread(offset, data.shape)
    return (wide * _spread(scale, data.shape)).astype(scale.dtype)


def _spread(blocks: Array, shape: tuple[int, ...]) -> Array:
    for axis, size in enumerate(blocks.shape):
        blocks = np.repeat(blocks, shape[axis] // size, axis)
    return blocks


def _lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: Array | None = None
) -> Array:
    """Look `indices` up; `shape` marks the iOS 16 form (packed indices, one flat table)."""
    if shape is not None:
        flat: Array = lut[unpack(indices, int(lut.size).bit_length() - 1, tuple(shape.tolist()))]
        return flat
    groups, vector = lut.shape[:-2], lut.shape[-1]
    cell = np.zeros(indices.shape, np.int64)
    for axis, size in enumerate(groups):
        position = np.arange(indices.shape[axis]) // (indices.shape[axis] // size)
        cell = cell * size + np.expand_dims(position, [i for i in range(indices.ndim) if i != axis])
    dense = lut.reshape(-1, *lut.shape[-2:])[cell, indices]
    if vector == 1:
        return dense[..., 0]
    axis = _axis(vector_axis, indices.ndim)
    dense = np.moveaxis(dense, -1, axis + 1)
    return dense.reshape([n * vector if i == axis else n for i, n in enumerate(indices.shape)])


def _axis(axis: Array | None, rank: int) -> int:
    if axis is None:
        raise StepFailed(
            "a table of vectors without `vector_axis`: the file is damaged. Export again."
        )
    return int(axis) % rank


def _sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """Put the values where `mask` is 1; `shape` marks the iOS 16 form (packed mask)."""
    if shape is not None:
        mask = unpack(mask, 1, tuple(shape.tolist()))
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def _lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None
) -> tuple[Array, Array]:
    indices = _sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = _lut_to_dense(indices, lut, vector_axis=vector_axis)
    if lut.shape[-1] > 1:
        indices_mask = np.repeat(indices_mask, lut.shape[-1], _axis(vector_axis, indices.ndim))
    return indices_mask, dense[indices_mask != 0]


def _sparse_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    dense = _shift_scale(_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def _cast(source_val: Array, output_dtype: str) -> Array:
    return source_val.astype({"fp16": np.float16, "fp32": np.float32}[output_dtype])


CONSTEXPR: Mapping[str, Callable[..., Array | tuple[Array, Array]]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _shift_scale,
    "constexpr_cast": _cast,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
