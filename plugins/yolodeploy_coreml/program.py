"""Changing a saved ML program: which weights may be compressed, and how they are put back.

The decoder of a detector turns 16 numbers per box side into a distance with a convolution
whose weights are 0 to 15, and holds the anchors and strides as constants. An error in any of
these moves every box, and together they take no space: coremltools' `global_config` compresses
them and costs a COCO YOLOv8n a fifth of its mAP. Here only weights of convolutions in front of
the decoder are offered.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.graph import Layer, block_of, layers
from yolodeploy_coreml.package import Package, data_types, inner
from yolodeploy_coreml.values import Reader

WEIGHT_FILE = "weight.bin"
_WEIGHT_PATH = f"@model_path/weights/{WEIGHT_FILE}"
# Data types of weight records: `BlobDataType` in mlmodel/src/MILBlob/Blob/BlobDataType.hpp.
_RECORD_TYPE = {
    "FLOAT16": 1,
    "FLOAT32": 2,
    "UINT8": 3,
    "INT8": 4,
    "UINT1": 9,
    "UINT2": 10,
    "UINT4": 11,
    "UINT3": 12,
    "UINT6": 13,
    "INT4": 8,
}
_HEADER, _RECORD, _ALIGN = "<II56x", "<IIQQQ32x", 64
_SENTINEL, _FORMAT = 0xDEADBEEF, 2
_FLOATS = {2: "FLOAT16", 4: "FLOAT32"}
_IN_FILE = 10  # elements from which on coremltools puts a value into the weight file


@dataclass(frozen=True)
class Operand:
    """A constant operand of a decompressing operation.

    `data` are its elements, packed; `padding_bits` at the end of the last byte are unused.
    """

    type: str
    shape: tuple[int, ...]
    data: bytes
    padding_bits: int = 0


@dataclass(frozen=True)
class Encoded:
    """A weight in compressed form: the MIL operation that decompresses it, and its operands."""

    operation: str
    operands: Mapping[str, Operand]

    def size(self) -> int:
        """Bytes that the operands take."""
        return sum(len(operand.data) for operand in self.operands.values())

    def stored(self) -> int:
        """Bytes that the operands take with their records in the weight file, padding included."""
        return sum(
            _ALIGN + _aligned(len(operand.data))
            for operand in self.operands.values()
            if math.prod(operand.shape) >= _IN_FILE
        )


def floats(array: NDArray[Any]) -> Operand:
    """An fp16 or fp32 array as it is."""
    return Operand(_FLOATS[array.dtype.itemsize], array.shape, array.tobytes())


def _aligned(size: int) -> int:
    return size + -size % _ALIGN


@dataclass
class WeightFile:
    """A weight file in the making; see `values.py` for the format."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = _ALIGN
    count: int = 0

    def add(self, kind: int, data: bytes, padding_bits: int = 0) -> int:
        """Append a record and return its offset."""
        offset = self.size
        record = struct.pack(_RECORD, _SENTINEL, kind, len(data), offset + _ALIGN, padding_bits)
        padded = record + data + bytes(_aligned(len(data)) - len(data))
        self.chunks.append(padded)
        self.size += len(padded)
        self.count += 1
        return offset

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(struct.pack(_HEADER, self.count, _FORMAT) + b"".join(self.chunks))


class Editor:
    """A package's program, open for changes to its weights.

    `layers` are the convolutions in front of the decoder whose weights are theirs alone, by name.
    """

    def __init__(self, package: Package) -> None:
        self.spec = package.spec
        function = inner(package.spec).mlProgram.functions["main"]
        self._block = block_of(package.spec)
        self._reader = Reader(package.weights)
        self._numbers = {name: number for number, name in data_types().items()}
        self._constants = {
            op.outputs[0].name: op for op in self._block.operations if op.type == "const"
        }
        # iOS 18's operations take their operands as inputs, and in other shapes.
        self.is_ios18 = int(function.opset.removeprefix("CoreML")) >= 8
        self.parts = {layer.name: layer.part for layer in layers(self._block)}
        self.layers = {layer.name: layer for layer in self._offered()}

    def _offered(self) -> Iterator[Layer]:
        readers = Counter(
            binding.name
            for op in self._block.operations
            for argument in op.inputs.values()
            for binding in argument.arguments
        )
        for layer in layers(self._block):
            own = layer.weight in self._constants and readers[layer.weight] == 1
            if layer.part != "dfl" and own:
                yield layer

    def weight(self, layer: Layer) -> NDArray[Any]:
        """A weight `[out, in / groups, height, width]` in the type that it is stored in."""
        return self._floats(layer.weight)

    def bias(self, layer: Layer) -> NDArray[Any] | None:
        """A bias `[out]` in the type that it is stored in; None where there is no constant one."""
        return self._floats(layer.bias) if layer.bias in self._constants else None

    def _floats(self, name: str | None) -> NDArray[Any]:
        array = self._reader.read(self._constants[name].attributes["val"])
        if not isinstance(array, np.ndarray):
            raise StepFailed(f"{name} is no tensor. Export again.")
        return array

    def write(
        self, weights: Mapping[str, Encoded], biases: Mapping[str, NDArray[Any]], folder: Path
    ) -> None:
        """Replace weights and biases by layer, and write a weight file into the empty `folder`.

        Everything else is copied as it is.
        """
        file = WeightFile()
        encoded = {self.layers[name].weight: value for name, value in weights.items()}
        changed = {self.layers[name].bias: value for name, value in biases.items()}
        for op in self._block.operations:
            name = op.outputs[0].name
            if name in encoded:
                self._replace(op, encoded[name], file)
            elif name in changed:
                op.attributes["val"].Clear()
                self._fill(op.attributes["val"], floats(changed[name]), file)
            else:
                for value in _stored(op):
                    self._copy(value.blobFileValue, file)
        file.write(folder / WEIGHT_FILE)

    def _replace(self, const: Any, encoded: Encoded, file: WeightFile) -> None:
        """Turn a constant into the operation that computes it; its name stays, so do its readers."""
        const.type = encoded.operation
        del const.attributes["val"]
        for key, operand in encoded.operands.items():
            if self.is_ios18:
                value = const.inputs[key].arguments.add().value
            else:
                value = const.attributes[key]
            self._fill(value, operand, file)

    def _fill(self, value: Any, operand: Operand, file: WeightFile) -> None:
        tensor = value.type.tensorType
        tensor.dataType = self._numbers[operand.type]
        tensor.rank = len(operand.shape)
        for size in operand.shape:
            tensor.dimensions.add().constant.size = size
        if math.prod(operand.shape) >= _IN_FILE:
            value.blobFileValue.fileName = _WEIGHT_PATH
            kind = _RECORD_TYPE[operand.type]
            value.blobFileValue.offset = file.add(kind, operand.data, operand.padding_bits)
        elif operand.type == "INT32":
            value.immediateValue.tensor.ints.values.extend(
                np.frombuffer(operand.data, "<i4").tolist()
            )
        elif operand.type == "FLOAT32":
            value.immediateValue.tensor.floats.values.extend(
                np.frombuffer(operand.data, "<f4").tolist()
            )
        else:
            value.immediateValue.tensor.bytes.values = operand.data

    def _copy(self, blob: Any, file: WeightFile) -> None:
        kind, padding_bits, data = self._reader.record(blob.fileName, blob.offset)
        blob.fileName, blob.offset = _WEIGHT_PATH, file.add(kind, data, padding_bits)


def _stored(op: Any) -> Iterator[Any]:
    """The operation's values that lie in a weight file."""
    values = [op.attributes[key] for key in sorted(op.attributes)]
    for key in sorted(op.inputs):
        values += [binding.value for binding in op.inputs[key].arguments]
    return (value for value in values if value.WhichOneof("value") == "blobFileValue")
