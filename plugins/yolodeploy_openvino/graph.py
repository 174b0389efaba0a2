"""The layers of an IR: which convolution of the checkpoint each one is, and its part of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yolodeploy.compress import Kind, Node, Part, find_parts

_MODULE = re.compile(r"model\.\d+\..+(?=\.weight)")
_CONSTANTS = frozenset({"Constant", "Convert"})
_KINDS: Mapping[str, Kind] = {
    "Convolution": "convolution",
    "Interpolate": "upsample",
    "Softmax": "softmax",
    **dict.fromkeys(_CONSTANTS, "constant"),
}


@dataclass(frozen=True)
class Structure:
    """`parts` by layer name, of convolutions and of the operations that decode their results.

    `operations` gives the name that each of them has in the graph.
    """

    parts: dict[str, Part]
    operations: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the convolutions, in order of execution."""
        return tuple(name for name, part in self.parts.items() if part != "decode")

    def convolutions(self, model: Any) -> dict[str, Any]:
        """The convolutions, by layer name, of the same IR or of one that was made from it."""
        nodes = {node.get_friendly_name(): node for node in model.get_ops()}
        return {name: nodes[self.operations[name]] for name in self.names}


def find_structure(model: Any) -> Structure:
    """Derive the structure of an `openvino.Model`; raises StepFailed if it is no detector."""
    operations = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    nodes = [Node(name, _kind(node), _names(sources(node))) for name, node in operations.items()]
    layers = {
        name if part == "decode" else _layer_name(operations[name]): (part, name)
        for name, part in find_parts(nodes, _names(sources(model.get_results()[0]))).items()
    }
    return Structure(
        {layer: part for layer, (part, _) in layers.items()},
        {layer: name for layer, (_, name) in layers.items()},
    )


def sources(operation: Any) -> list[Any]:
    """The operations that feed the inputs of an operation."""
    return [port.get_source_output().get_node() for port in operation.inputs()]


def _names(operations: Iterable[Any]) -> tuple[str, ...]:
    return tuple(operation.get_friendly_name() for operation in operations)


def _layer_name(convolution: Any) -> str:
    """The module's name in the checkpoint, which the name of the weights contains."""
    found = _MODULE.search(sources(convolution)[1].get_friendly_name())
    return found[0] if found else str(convolution.get_friendly_name())


def _kind(operation: Any) -> Kind:
    kind = operation.get_type_name()
    if kind == "Add":
        added = {source.get_type_name() for source in sources(operation)}
        return "bias" if added <= {"Convolution", *_CONSTANTS} else "other"
    return _KINDS.get(kind, "other")
