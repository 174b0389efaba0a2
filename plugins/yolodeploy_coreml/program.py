"""Changing a saved ML program: which weights may be compressed, and how they are put back.

The decoder of a detector turns 16 numbers per box side into a distance with a convolution
whose weights are 0 to 15, and holds the anchors and strides as constants. An error in any of
these moves every box, and together they take no space: coremltools' `global_config` compresses
them and costs a COCO YOLOv8n a fifth of its mAP. Here only weights of convolutions in front of
the decoder are offered.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_coreml.graph import Layer, block_of, layers
from yolodeploy_coreml.package import Package, data_types, inner, messages, reading
from yolodeploy_coreml.values import CONSTEXPR, Reader
from yolodeploy_coreml.weight_file import RECORD_TYPE, WeightFile, record_size

WEIGHT_FILE = "weight.bin"
_WEIGHT_PATH = f"@model_path/weights/{WEIGHT_FILE}"
SPARSE = "constexpr_sparse_to_dense"
# The operations whose results, a mask and the values where it is one, `SPARSE` reads.
_SPARSE_VALUES = {
    "constexpr_lut_to_sparse": ("indices_mask", "indices_nonzero_data"),
    "constexpr_sparse_blockwise_shift_scale": ("data_mask", "nonzero_data"),
}
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
            record_size(len(operand.data))
            for operand in self.operands.values()
            if math.prod(operand.shape) >= _IN_FILE
        )


def floats(array: NDArray[Any]) -> Operand:
    """An fp16 or fp32 array as it is."""
    return Operand(_FLOATS[array.dtype.itemsize], array.shape, array.tobytes())


class Editor:
    """A package's program, open for changes to its weights.

    `layers` are the convolutions in front of the decoder whose weights are theirs alone, by name;
    `sparse` are those of which only the weights that are not zero are stored, in floating point.
    """

    @reading("the saved program")
    def __init__(self, package: Package) -> None:
        self.spec = package.spec
        function = inner(package.spec).mlProgram.functions["main"]
        self._block = block_of(package.spec)
        self._reader = Reader(package.weights)
        self._numbers = {name: number for number, name in data_types().items()}
        self._constants = {
            op.outputs[0].name: op for op in self._block.operations if op.type == "const"
        }
        self._sparse = {op.outputs[0].name: op for op in self._block.operations if _is_sparse(op)}
        # iOS 18's operations take their operands as inputs, and in other shapes.
        self.is_ios18 = int(function.opset.removeprefix("CoreML")) >= 8
        self.parts = {layer.name: layer.part for layer in layers(self._block)}
        self.layers = {layer.name: layer for layer in self._offered(self._constants)}
        self.sparse = {layer.name: layer for layer in self._offered(self._sparse)}

    def _offered(self, sources: Mapping[str, Any]) -> Iterator[Layer]:
        readers = Counter(
            binding.name
            for op in self._block.operations
            for argument in op.inputs.values()
            for binding in argument.arguments
        )
        for layer in layers(self._block):
            own = layer.weight in sources and readers[layer.weight] == 1
            if layer.part != "dfl" and own:
                yield layer

    @reading("a weight of the saved program")
    def weight(self, layer: Layer) -> NDArray[Any]:
        """A weight `[out, in / groups, height, width]` in the type that it is stored in."""
        if layer.weight not in self._sparse:
            return self._floats(layer.weight)
        op = self._sparse[layer.weight]
        operands = {key: self._reader.read(value) for key, value in _operands(op).items()}
        dense = CONSTEXPR[SPARSE](**operands)
        return dense if isinstance(dense, np.ndarray) else dense[0]

    def kept(self, layer: Layer) -> NDArray[np.bool_]:
        """Which weights of a sparse layer of an iOS 18 program are stored, `[out, in, height, width]`."""
        mask = self._reader.read(_operands(self._sparse[layer.weight])["mask"])
        return np.asarray(mask, np.bool_)

    def bias(self, layer: Layer) -> NDArray[Any] | None:
        """A bias `[out]` in the type that it is stored in; None where there is no constant one."""
        return self._floats(layer.bias) if layer.bias in self._constants else None

    @reading("a weight of the saved program")
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
        known = {**self.layers, **self.sparse}
        encoded = {known[name].weight: value for name, value in weights.items()}
        changed = {known[name].bias: value for name, value in biases.items()}
        operations = []
        for op in self._block.operations:
            name = op.outputs[0].name
            if name in encoded:
                operations += self._replace(op, encoded[name], file)
            elif name in changed:
                op.attributes["val"].Clear()
                self._fill(op.attributes["val"], floats(changed[name]), file)
            else:
                for value in _stored(op):
                    self._copy(value.blobFileValue, file)
            operations.append(op)
        kept = [_copied(op) for op in operations]
        del self._block.operations[:]
        self._block.operations.extend(kept)
        file.write(folder / WEIGHT_FILE)

    def _replace(self, op: Any, encoded: Encoded, file: WeightFile) -> list[Any]:
        """Make a weight the result of `encoded`; its name stays, so do its readers.

        Returns the operations that must stand in front of it.
        """
        for key in [key for key in op.attributes if key != "name"]:
            del op.attributes[key]
        op.inputs.clear()
        before = []
        if encoded.operation in _SPARSE_VALUES:
            before.append(self._sparse_values(op, encoded))
            op.type = SPARSE
            for key, out in zip(("mask", "nonzero_data"), before[0].outputs, strict=True):
                op.inputs[key].arguments.add(name=out.name)
        target = before[0] if before else op
        target.type = encoded.operation
        for key, operand in encoded.operands.items():
            if self.is_ios18:
                value = target.inputs[key].arguments.add().value
            else:
                value = target.attributes[key]
            self._fill(value, operand, file)
        return before

    def _sparse_values(self, op: Any, encoded: Encoded) -> Any:
        """The operation, without operands, that computes what makes `op` a sparse weight."""
        made, name = messages().MIL__pb2.Operation(), op.outputs[0].name
        made.attributes["name"].CopyFrom(op.attributes["name"])
        made.attributes["name"].immediateValue.tensor.strings.values[0] = f"{name}_compressed"
        mask, values = (encoded.operands[key] for key in _SPARSE_VALUES[encoded.operation])
        kind = op.outputs[0].type.tensorType.dataType
        for label, number, shape in (
            ("mask", self._numbers[mask.type], mask.shape),
            ("values", kind, values.shape),
        ):
            out = made.outputs.add(name=f"{name}_{label}")
            _set_type(out.type.tensorType, number, shape)
        return made

    def _fill(self, value: Any, operand: Operand, file: WeightFile) -> None:
        _set_type(value.type.tensorType, self._numbers[operand.type], operand.shape)
        if math.prod(operand.shape) >= _IN_FILE:
            value.blobFileValue.fileName = _WEIGHT_PATH
            kind = RECORD_TYPE[operand.type]
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


def _set_type(tensor: Any, kind: int, shape: tuple[int, ...]) -> None:
    tensor.dataType = kind
    tensor.rank = len(shape)
    for size in shape:
        tensor.dimensions.add().constant.size = size


def _copied(op: Any) -> Any:
    copy = type(op)()
    copy.CopyFrom(op)
    return copy


def _is_sparse(op: Any) -> bool:
    """Whether an operation computes a sparse weight from values in floating point."""
    operands = _operands(op) if op.type == SPARSE else {}
    return "nonzero_data" in operands and "mask" in operands


def _operands(op: Any) -> dict[str, Any]:
    """The values that an operation takes, which iOS 16 keeps in attributes and iOS 18 in inputs."""
    found = {key: value for key, value in op.attributes.items() if key != "name"}
    for key, argument in op.inputs.items():
        (binding,) = argument.arguments
        if binding.WhichOneof("binding") == "value":
            found[key] = binding.value
    return found


def _stored(op: Any) -> Iterator[Any]:
    """The operation's values that lie in a weight file."""
    values = [op.attributes[key] for key in sorted(op.attributes)]
    for key in sorted(op.inputs):
        values += [binding.value for binding in op.inputs[key].arguments]
    return (value for value in values if value.WhichOneof("value") == "blobFileValue")
