"""The layers of an IR: its convolutions by their names in the checkpoint, and what decodes their results.

The export names every operation with weights as the checkpoint names its module, and `layers.json` says
which part of the model it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.compress import (
    LAYERS_FILE,
    Kind,
    Node,
    Part,
    decoding,
    layer_named,
    read_layers,
    told_task,
)
from yolodeploy.errors import StepFailed

TRAINED = frozenset({"Convolution", "GroupConvolution"})  # of whose inputs training learns ranges
CONVOLUTIONS = TRAINED | {"ConvolutionBackpropData"}
OUTPUTS = ("output0", "output1")
_COLUMNS = 6  # of rows: corners, score, class
_WITHOUT_BIAS = (
    "/WithoutBiases"  # behind the name of a node whose bias became an operation of its own
)
_CONSTANTS = frozenset({"Constant", "Convert"})
_EXPANDING = frozenset({"Convert", "Multiply", "Reshape", "Subtract", "FakeQuantize"})  # of weights


@dataclass(frozen=True)
class Structure:
    """`parts` by name, of convolutions and of the operations that decode their results.

    `products` names the multiplications of two maps that depend on the image, as attention has them.
    """

    parts: dict[str, Part]
    products: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the convolutions, in order of execution."""
        return tuple(name for name, part in self.parts.items() if part != "decode")

    def convolutions(self, model: Any) -> dict[str, Any]:
        """The convolutions, by name, of the same IR or of one that was made from it."""
        nodes = {node.get_friendly_name(): node for node in model.get_ops()}
        return {name: nodes[name] for name in self.names}


def find_structure(model: Any, folder: Path) -> Structure:
    """The structure of an `openvino.Model` of the artifact in `folder`.

    Raises StepFailed if `layers.json` does not name its convolutions, or it is no detector.
    """
    known = read_layers(folder)
    operations = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    weighted = [name for name, node in operations.items() if has_weights(node)]
    for name in weighted:
        if name not in known:
            raise StepFailed(
                f"{folder / LAYERS_FILE} does not name {name[:60]}, a convolution of the graph. The file is "
                "damaged; build it again."
            )
    nodes = [Node(name, _kind(node), _names(sources(node))) for name, node in operations.items()]
    ends = [name for result in model.get_results() for name in _names(sources(result))]
    decode = decoding(nodes, ends, {name: known[name] for name in weighted})
    products = (name for name, node in operations.items() if node.get_type_name() == "MatMul")
    return Structure(
        {name: known.get(name, "decode") for name in operations if name in {*weighted, *decode}},
        tuple(name for name in products if name not in weighted),
    )


def gives_rows(model: Any, parts: Collection[Part]) -> bool:
    """Whether a model ends in the best findings of a one-to-one head, which it selects itself.

    A detector of which only the outputs are known may select queries, and give them as anchors.
    """
    shape = model.output(0).partial_shape
    selects = any(node.get_type_name() == "TopK" for node in model.get_ops())
    if told_task(parts, len(shape)) != "detect":
        return selects
    *_, columns = shape
    return selects and columns.is_static and columns.get_length() == _COLUMNS


def name_layers(model: Any, parts: Mapping[str, Part]) -> None:
    """Name every operation with weights of a converted model as the checkpoint names its module.

    The converter puts the module's path before a slash in the operation's name. Raises StepFailed unless
    the operations are exactly the layers of `parts`.
    """
    left = dict(parts)
    for node in model.get_ordered_ops():
        if has_weights(node):
            path = str(node.get_friendly_name()).partition("/")[0]
            name = layer_named(path, left)
            if name is None:
                raise _unnamed(f"names {path[:80]}, which is no layer of the model")
            node.set_friendly_name(name)
            del left[name]
    if left:
        raise _unnamed(f"left out {len(left)} layers of the model, such as {next(iter(left))}")


def name_passed_on(model: Any, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Name every operation with weights of an ONNX file as its node; returns the parts of those that are there.

    A layer that the converter has made of other nodes is none of `parts`, and counts as `head`.
    """
    found: dict[str, Part] = {}
    operations = model.get_ordered_ops()
    for node in operations:
        if has_weights(node):
            name = str(node.get_friendly_name()).removesuffix(_WITHOUT_BIAS)
            found[name] = parts.get(name, "head")
    for node in operations:  # a bias or the model's output may be called as what it follows
        name = str(node.get_friendly_name())
        if has_weights(node):
            node.set_friendly_name(name.removesuffix(_WITHOUT_BIAS))
        elif name in found or name == OUTPUTS[0]:
            node.set_friendly_name(f"{name}.{node.get_type_name()}")
    return found


def _unnamed(what: str) -> StepFailed:
    return StepFailed(
        f"OpenVINO's converter {what}. Try the version that the recipe's lock file names."
    )


def sources(operation: Any) -> list[Any]:
    """The operations that feed the inputs of an operation."""
    return [port.get_source_output().get_node() for port in operation.inputs()]


def has_weights(operation: Any) -> bool:
    """Whether an operation is a convolution, or multiplies by constant weights."""
    kind = operation.get_type_name()
    return kind in CONVOLUTIONS or (kind == "MatMul" and _constant(sources(operation)[1]))


def _constant(node: Any) -> bool:
    while node.get_type_name() in _EXPANDING:
        node = sources(node)[0]
    return bool(node.get_type_name() == "Constant")


def _names(operations: Iterable[Any]) -> tuple[str, ...]:
    return tuple(operation.get_friendly_name() for operation in operations)


def _kind(operation: Any) -> Kind:
    kind = operation.get_type_name()
    if has_weights(operation):
        return "convolution"
    if kind == "Add":
        added = {source.get_type_name() for source in sources(operation)}
        return "bias" if added <= CONVOLUTIONS | _CONSTANTS else "other"
    return "constant" if kind in _CONSTANTS else "other"
