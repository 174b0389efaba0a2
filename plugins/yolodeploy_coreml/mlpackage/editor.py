"""Changing a saved ML program: which weights may be compressed, and how they are put back.

The decoder of a detector turns 16 numbers per box side into a distance with a convolution
whose weights are 0 to 15, and holds the anchors and strides as constants. An error in any of
these moves every box, and together they take no space: coremltools' `global_config` compresses
them and costs a COCO YOLOv8n a fifth of its mAP. Here only weights of convolutions in front of
the decoder are offered.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.compress import Part
from yolodeploy.errors import StepFailed
from yolodeploy_coreml.mlpackage.encodings import SPARSE, Encoded, Operand, floats, sparse
from yolodeploy_coreml.mlpackage.layers import TRANSPOSED, Layer, block_of, layers
from yolodeploy_coreml.mlpackage.operations import (
    bindings,
    main_function,
    new_operation,
    operands,
    replace_operations,
    set_type,
    type_numbers,
)
from yolodeploy_coreml.mlpackage.package import Package, report_damage, write_package
from yolodeploy_coreml.mlpackage.values import Reader
from yolodeploy_coreml.mlpackage.weight_file import RECORD_TYPE, WeightFile

WEIGHT_FILE = "weight.bin"
_WEIGHT_PATH = f"@model_path/weights/{WEIGHT_FILE}"
# The operations that compute a mask and the values where it is one, from which `SPARSE` makes a weight.
_SPARSE_VALUES = {
    "constexpr_lut_to_sparse": ("indices_mask", "indices_nonzero_data"),
    "constexpr_sparse_blockwise_shift_scale": ("data_mask", "nonzero_data"),
}


class Editor:
    """A package's program, open for changes to its weights.

    `named` are the parts of the checkpoint's layers by name, as `read_layers` gives them. `layers` are the convolutions in front of the decoder that share their weights with no other, by
    name, and matrices; `sparse` are those of which only the weights that are not zero are stored, in floating point;
    `compressed` names all in front of the decoder that are not among `layers`.
    """

    @report_damage("the saved program")
    def __init__(self, package: Package, named: Mapping[str, Part]) -> None:
        self.spec = package.spec
        self.block = block_of(package.spec)
        self._reader = Reader(package.weights)
        made = {op.outputs[0].name: op for op in self.block.operations}
        self._constants = {name: op for name, op in made.items() if op.type == "const"}
        self._sparse = {name: op for name, op in made.items() if _is_sparse(op)}
        # iOS 18's operations take their operands as inputs, and in other shapes.
        self.is_ios18 = int(main_function(package.spec).opset.removeprefix("CoreML")) >= 8
        found = layers(self.block, named)
        self.parts = {layer.name: layer.part for layer in found}
        self.layers = {layer.name: layer for layer in self._offered(found, self._constants)}
        self.sparse = {layer.name: layer for layer in self._offered(found, self._sparse)}
        before_decoder = [la.name for la in found if _compressible(la)]
        self.compressed = tuple(name for name in before_decoder if name not in self.layers)

    def _offered(self, found: Iterable[Layer], sources: Mapping[str, Any]) -> Iterator[Layer]:
        readers = Counter(binding.name for op in self.block.operations for binding in bindings(op))
        for layer in found:
            own = layer.weight in sources and readers[layer.weight] == 1
            if own and _compressible(layer):
                yield layer

    @report_damage("a weight of the saved program")
    def weight(self, layer: Layer) -> NDArray[Any]:
        """A weight `[out, in / groups, height, width]` in the type that it is stored in."""
        if layer.weight in self._sparse:
            return self._reader.decompress(self._sparse[layer.weight], {})[0]
        return self._array(layer.weight)

    def kept(self, layer: Layer) -> NDArray[np.bool_] | None:
        """Which weights of a sparse layer of an iOS 18 program are stored; None for other layers."""
        if layer.weight not in self._sparse:
            return None
        mask = self._reader.read(operands(self._sparse[layer.weight])["mask"])
        return np.asarray(mask, np.bool_)

    def encoded(self, layer: Layer) -> Encoded:
        """A weight as it is stored now."""
        weight, kept = self.weight(layer), self.kept(layer)
        if kept is None:
            return Encoded("const", {"val": floats(weight)})
        return sparse(weight, kept, ios18=True)

    @report_damage("a weight of the saved program")
    def bias(self, layer: Layer) -> NDArray[Any] | None:
        """A bias `[out]` in the type that it is stored in; None where it is not a constant."""
        return self._array(layer.bias) if layer.bias in self._constants else None

    def _array(self, name: str | None) -> NDArray[Any]:
        array = self._reader.read(self._constants[name].attributes["val"])
        if not isinstance(array, np.ndarray):
            raise StepFailed(f"{name} must be a tensor, but is {array!r:.80}. Export again.")
        return array

    def save(
        self,
        weights: Mapping[str, Encoded],
        biases: Mapping[str, NDArray[Any]],
        text: str,
        path: Path,
    ) -> None:
        """Write the package to `path`, with weights and biases of layers replaced, by name.

        `text` is added to the description of the model. What is at `path` goes.
        """
        file = WeightFile()
        known = {**self.layers, **self.sparse}
        encoded = {known[name].weight: value for name, value in weights.items()}
        changed = {known[name].bias: value for name, value in biases.items()}
        operations = []
        for op in self.block.operations:
            name = op.outputs[0].name
            if name in encoded:
                operations += self._replace(op, encoded[name], file)
            elif name in changed:
                op.attributes["val"].Clear()
                set_value(op.attributes["val"], floats(changed[name]), file)
            else:
                for value in _in_file(op):
                    self._copy(value.blobFileValue, file)
            operations.append(op)
        replace_operations(self.block, operations)
        self.spec.description.metadata.shortDescription += f", {text}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as stored:
            file.write(Path(stored) / WEIGHT_FILE)
            write_package(path, self.spec, Path(stored))

    def _replace(self, op: Any, encoded: Encoded, file: WeightFile) -> list[Any]:
        """Make a weight the result of `encoded`; its name stays, so do its readers.

        Returns the operations that must stand in front of it.
        """
        for key in [key for key in op.attributes if key != "name"]:
            del op.attributes[key]
        op.inputs.clear()
        before = []
        if encoded.operation in _SPARSE_VALUES:
            before.append(_sparse_values(op, encoded))
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
            set_value(value, operand, file)
        return before

    def _copy(self, blob: Any, file: WeightFile) -> None:
        kind, padding_bits, data = self._reader.files.record(blob.fileName, blob.offset)
        blob.fileName, blob.offset = _WEIGHT_PATH, file.add(kind, data.tobytes(), padding_bits)


def _compressible(layer: Layer) -> bool:
    """Whether a layer lies in front of the decoder and is large enough to matter; transposed convolutions are not."""
    return layer.part != "dfl" and layer.kind != TRANSPOSED


def _sparse_values(op: Any, encoded: Encoded) -> Any:
    """The operation, without operands, that computes what makes `op` a sparse weight."""
    name = op.outputs[0].name
    made = new_operation(encoded.operation, f"{name}_compressed")
    mask, values = (encoded.operands[key] for key in _SPARSE_VALUES[encoded.operation])
    kind = op.outputs[0].type.tensorType.dataType
    for label, number, shape in (
        ("mask", type_numbers()[mask.type], mask.shape),
        ("values", kind, values.shape),
    ):
        out = made.outputs.add(name=f"{name}_{label}")
        set_type(out.type.tensorType, number, shape)
    return made


def set_value(value: Any, operand: Operand, file: WeightFile | None = None) -> None:
    """Make an empty `Value` message hold an operand, in `file` if it is large enough."""
    set_type(value.type.tensorType, type_numbers()[operand.type], operand.shape)
    tensor = value.immediateValue.tensor
    if file is not None and operand.in_file:
        value.blobFileValue.fileName = _WEIGHT_PATH
        kind = RECORD_TYPE[operand.type]
        value.blobFileValue.offset = file.add(kind, operand.data, operand.padding_bits)
    elif operand.type == "INT32":
        tensor.ints.values.extend(np.frombuffer(operand.data, "<i4").tolist())
    elif operand.type == "FLOAT32":
        tensor.floats.values.extend(np.frombuffer(operand.data, "<f4").tolist())
    else:
        tensor.bytes.values = operand.data


def _is_sparse(op: Any) -> bool:
    """Whether an operation computes a sparse weight from values in floating point."""
    return op.type == SPARSE and {"nonzero_data", "mask"} <= operands(op).keys()


def _in_file(op: Any) -> Iterator[Any]:
    """The operation's values that lie in a weight file."""
    values = [op.attributes[key] for key in sorted(op.attributes)]
    for key in sorted(op.inputs):
        values += [binding.value for binding in op.inputs[key].arguments]
    return (value for value in values if value.WhichOneof("value") == "blobFileValue")
