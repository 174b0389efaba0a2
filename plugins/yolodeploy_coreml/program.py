"""Changing a saved ML program: which weights may be compressed, and how they are put back.

The decoder of a detector turns 16 numbers per box side into a distance with a convolution
whose weights are 0 to 15, and holds the anchors and strides as constants. An error in any of
these moves every box, and together they take no space: coremltools' `global_config` compresses
them and costs a COCO YOLOv8n a tenth of its mAP. Here only weights of convolutions in front of
the decoder are offered, and the decoder is found by its structure.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.package import Package, data_types, inner
from yolodeploy_coreml.values import Reader

Floats = NDArray[np.float32]
Progress = Callable[[float, str], None]

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
}
_HEADER, _RECORD, _ALIGN = "<II56x", "<IIQQQ32x", 64
_SENTINEL, _FORMAT = 0xDEADBEEF, 2
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
        padded = record + data + bytes(-len(data) % _ALIGN)
        self.chunks.append(padded)
        self.size += len(padded)
        self.count += 1
        return offset

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(struct.pack(_HEADER, self.count, _FORMAT) + b"".join(self.chunks))


class Editor:
    """A package's program, open for changes to its weights."""

    def __init__(self, package: Package) -> None:
        self.spec = package.spec
        function = inner(package.spec).mlProgram.functions["main"]
        self._block = function.block_specializations[function.opset]
        self._folder = package.weights
        self._reader = Reader(package.weights)
        self._numbers = {name: number for number, name in data_types().items()}
        # iOS 18's operations take their operands as inputs, and in other shapes.
        self.is_ios18 = int(function.opset.removeprefix("CoreML")) >= 8

    def weights(self) -> list[Any]:
        """The `const` operations that hold weights of convolutions in front of the decoder."""
        allowed: set[str] = set()
        other: set[str] = set()
        decoder = _decoder(self._block)
        for op in self._block.operations:
            free = op.type == "conv" and op.outputs[0].name not in decoder
            for key, argument in op.inputs.items():
                names = {binding.name for binding in argument.arguments}
                (allowed if free and key == "weight" else other).update(names)
        offered = allowed - other
        return [
            op
            for op in self._block.operations
            if op.type == "const" and op.outputs[0].name in offered
        ]

    def floats(self, const: Any) -> NDArray[Any]:
        """A weight `[out, in / groups, height, width]` in the type that it is stored in."""
        array = self._reader.read(const.attributes["val"])
        if not isinstance(array, np.ndarray):
            raise StepFailed(f"{const.outputs[0].name} is no tensor. Export again.")
        return array

    def replace(self, const: Any, encoded: Encoded, file: WeightFile) -> None:
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

    def compress(
        self, encode: Callable[[NDArray[Any]], Encoded], weights: Path, report: Progress
    ) -> int:
        """Encode the weights that get smaller by it, write a weight file, and return their number.

        `weights` is an empty folder. Everything that is not compressed is copied as it is.
        """
        file, done = WeightFile(), 0
        offered = {const.outputs[0].name for const in self.weights()}
        for op in self._block.operations:
            if op.outputs[0].name in offered:
                array = self.floats(op)
                encoded = encode(array)
                if encoded.size() < array.nbytes:
                    self.replace(op, encoded, file)
                    done += 1
                    report(done / len(offered), f"{done}/{len(offered)} layers")
                    continue
            for value in _stored(op):
                self._copy(value.blobFileValue, file)
        file.write(weights / WEIGHT_FILE)
        return done

    def store(self, changed: Mapping[str, Encoded | NDArray[Any]], weights: Path) -> None:
        """Give the constants `changed` another form or content, and write a weight file.

        `weights` is an empty folder. Everything else is copied as it is.
        """
        file = WeightFile()
        for op in self._block.operations:
            change = changed.get(op.outputs[0].name)
            if isinstance(change, Encoded):
                self.replace(op, change, file)
            elif change is not None:
                value = op.attributes["val"]
                kind = self._reader.type_name(value.type.tensorType)
                value.Clear()
                self._fill(value, Operand(kind, change.shape, change.tobytes()), file)
            else:
                for value in _stored(op):
                    self._copy(value.blobFileValue, file)
        file.write(weights / WEIGHT_FILE)

    def _copy(self, blob: Any, file: WeightFile) -> None:
        kind, padding_bits, data = self._reader.record(blob.fileName, blob.offset)
        blob.fileName, blob.offset = _WEIGHT_PATH, file.add(kind, data, padding_bits)


def _stored(op: Any) -> Iterator[Any]:
    """The operation's values that lie in a weight file."""
    values = [op.attributes[key] for key in sorted(op.attributes)]
    for key in sorted(op.inputs):
        values += [binding.value for binding in op.inputs[key].arguments]
    return (value for value in values if value.WhichOneof("value") == "blobFileValue")


def _decoder(block: Any) -> set[str]:
    """Walk back from the outputs to the concatenations of the scales' flattened feature maps.

    Returns the names of all values computed on the way.
    """
    producers = {out.name: op for op in block.operations for out in op.outputs}
    found: set[str] = set()
    pending, joins = list(block.outputs), 0
    while pending:
        op = producers.get(name := pending.pop())
        if op is None:
            raise StepFailed(
                f"the program is not a YOLO detector: its outputs depend on {name} past no head. "
                "Export a detection model."
            )
        if _is_join(op, producers):
            joins += 1
        elif name not in found:
            found.update(out.name for out in op.outputs)
            pending += [b.name for a in op.inputs.values() for b in a.arguments if b.name]
    if not joins:
        raise StepFailed("the program has no detection head. Export a detection model.")
    return found


def _is_join(op: Any, producers: Mapping[str, Any]) -> bool:
    if op.type != "concat":
        return False
    parts = [producers.get(binding.name) for binding in op.inputs["values"].arguments]
    return all(part is not None and part.type == "reshape" for part in parts)
