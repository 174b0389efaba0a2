"""From the graph of primitives to ONNX: each primitive is one or two operators of the same meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from yolodeploy_onnxruntime.model_file import Array, tensor
from yolodeploy_torch.graph import (
    Activation,
    AnyNode,
    Arithmetic,
    BatchNorm,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Function,
    GlobalPool,
    Grid,
    Linear,
    MatMul,
    Pool,
    Reshape,
    Resize,
    Shape,
    Softmax,
    Split,
    Transpose,
    grid,
)

Weights = Callable[[str], Array]
_ACTIVATIONS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "hardswish": "HardSwish"}


class Writer:
    """Collects the operators and tensors of an ONNX graph.

    `shapes` are those of the values of the graph of primitives, `weights` gives a tensor of the model by
    name, and `renamed` values bear another name in the file.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], weights: Weights, renamed: Mapping[str, str]
    ) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self.shapes, self.weights, self._renamed = shapes, weights, renamed

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output; only those with weights have a name besides."""
        read, made = [self.named(value) for value in inputs], self.named(output)
        self.nodes.append(helper.make_node(kind, read, [made], **attributes))
        return output

    def named(self, value: str) -> str:
        """The name of a value in the file."""
        return self._renamed.get(value, value)

    def keep(self, name: str, values: Any, kind: type[np.generic] = np.float32) -> str:
        """Add a tensor."""
        self.tensors[name] = tensor(name, np.asarray(values, kind))
        return name

    def lower(self, node: AnyNode) -> None:
        """Add what a primitive is in ONNX."""
        match node:
            case Conv() | ConvTranspose() | Linear() | BatchNorm():
                self._weighted(node)
            case Activation() | Function() | Softmax() | Arithmetic() | MatMul():
                self._numeric(node)
            case Pool() | GlobalPool() | Resize():
                self._map(node)
            case _:
                self._shape(node)

    def graph(
        self, image: Shape, outputs: Mapping[str, Shape], opset: int, version: int
    ) -> onnx.ModelProto:
        """The complete model, from `images` to `outputs`, which are named in their order."""
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in (("images", image), *outputs.items())
        ]
        made = helper.make_graph(
            self.nodes, "yolo", ends[:1], ends[1:], list(self.tensors.values())
        )
        return helper.make_model(
            made, opset_imports=[helper.make_opsetid("", opset)], ir_version=version
        )

    def _tensors(self, node: AnyNode, *keys: str) -> list[str]:
        return [self.keep(f"{node.name}.{k}", self.weights(f"{node.name}.{k}")) for k in keys]

    def _weighted(self, node: Conv | ConvTranspose | Linear | BatchNorm) -> None:
        keys = tuple(node.weights())
        if isinstance(node, Linear):
            (value,) = node.inputs
            matrix = self.keep(f"{node.name}.weight", self.weights(f"{node.name}.weight").T)
            product = f"{node.name}.product" if node.bias else node.name
            self.nodes.append(
                helper.make_node(
                    "MatMul", [self.named(value), matrix], [self.named(product)], node.name
                )
            )
            if node.bias:
                self.add("Add", [product, *self._tensors(node, "bias")], node.name)
                self.nodes[-1].name = f"{node.name}.sum"  # its value has the name of the layer
            return
        inputs = [*node.inputs, *self._tensors(node, *keys)]
        if isinstance(node, BatchNorm):
            self.add("BatchNormalization", inputs, node.name, epsilon=node.eps)
            return
        windows = _windows(node.kernel, node.stride, node.padding)
        if isinstance(node, Conv):
            more = {"dilations": node.dilation, "group": node.groups}
            windows |= _other(more, dilations=(1, 1), group=1)
        kind = "Conv" if isinstance(node, Conv) else "ConvTranspose"
        self.add(kind, inputs, node.name, **windows)
        self.nodes[-1].name = node.name

    def _numeric(self, node: Activation | Function | Softmax | Arithmetic | MatMul) -> None:
        inputs = list(node.inputs)
        match node:
            case Activation(kind="silu"):
                gate = self.add("Sigmoid", inputs, f"{node.name}.gate")
                self.add("Mul", [*inputs, gate], node.name)
            case Activation():
                slope = {"alpha": node.slope} if node.kind == "leaky_relu" else {}
                self.add(_ACTIVATIONS[node.kind], inputs, node.name, **slope)
            case Function():
                self.add(node.kind.capitalize(), inputs, node.name)
            case Softmax():
                self.add("Softmax", inputs, node.name, axis=node.axis)
            case MatMul():
                self.add("MatMul", inputs, node.name)
            case Arithmetic():
                if node.number is not None:
                    inputs.append(self.keep(f"{node.name}.number", node.number))
                self.add(node.kind.capitalize(), inputs, node.name)

    def _map(self, node: Pool | GlobalPool | Resize) -> None:
        inputs = list(node.inputs)
        match node:
            case Pool():
                windows = _windows(node.kernel, node.stride, node.padding)
                if node.kind == "average":
                    windows["count_include_pad"] = 1
                kind = "MaxPool" if node.kind == "max" else "AveragePool"
                self.add(kind, inputs, node.name, **windows)
            case GlobalPool():
                self.add("GlobalAveragePool", inputs, node.name)
            case Resize():
                before, after = self.shapes[inputs[0]], self.shapes[node.name]
                factors = [n / m for n, m in zip(after[2:], before[2:], strict=True)]
                scales = self.keep(f"{node.name}.scales", [1, 1, *factors])
                self.add(
                    "Resize",
                    [inputs[0], "", scales],
                    node.name,
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )

    def _shape(self, node: AnyNode) -> None:
        inputs = list(node.inputs)
        match node:
            case Concat():
                self.add("Concat", inputs, node.name, axis=node.axis)
            case Split():
                sizes = self.keep(f"{node.name}.sizes", node.sizes, np.int64)
                outputs = [self.named(value) for value in node.outputs]
                read = [self.named(inputs[0]), sizes]
                self.nodes.append(helper.make_node("Split", read, outputs, axis=node.axis))
            case Reshape():
                shape = self.keep(f"{node.name}.shape", self._reshaped(node), np.int64)
                self.add("Reshape", [inputs[0], shape], node.name)
            case Transpose():
                self.add("Transpose", inputs, node.name, perm=node.order)
            case Constant():
                self.keep(node.name, self.weights(node.name))
            case Grid():
                made = grid([self.shapes[value][2:] for value in inputs], node.strides)
                for name, values in zip(node.outputs, made, strict=True):
                    self.keep(name, values.numpy())
            case _:
                raise TypeError(node.op)

    def _reshaped(self, node: Reshape) -> list[int]:
        """The sizes as ONNX has them: 0 and -1 mean the same there, so that the batch is not named."""
        like = self.shapes[node.inputs[1]][-2:] if len(node.inputs) > 1 else (0, 0)
        named = {"height": like[0], "width": like[1]}
        return [named[size] if isinstance(size, str) else size for size in node.shape]


def _windows(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> dict[str, Any]:
    moved = {"strides": stride, "pads": (*padding, *padding)}
    return {"kernel_shape": kernel} | _other(moved, strides=(1, 1), pads=(0, 0, 0, 0))


def _other(given: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Attributes that are not what ONNX takes them to be if they are left out."""
    return {name: value for name, value in given.items() if value != defaults[name]}
