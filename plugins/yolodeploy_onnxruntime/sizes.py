"""Where the bytes of an ONNX file's weights are, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from yolodeploy.backend import LayerBytes
from yolodeploy.compress import weigh
from yolodeploy_onnxruntime.model_file import Lookup, read_model
from yolodeploy_onnxruntime.structure import find_structure


def layer_bytes(folder: Path) -> tuple[LayerBytes, ...]:
    """What every layer takes: the tensors of its weights and bias, those that several share with the first."""
    structure = find_structure(read_model(folder), folder)
    seen, sizes = set[str](), dict[str, int]()
    for name, node in structure.layers.items():
        bias = structure.bias(name)
        sizes[name] = _tensor_bytes(
            structure.lookup, [*node.input[1:], *filter(None, [bias])], seen
        )
    return weigh(structure.parts, structure.forms, sizes)


def _tensor_bytes(lookup: Lookup, values: Iterable[str], seen: set[str]) -> int:
    """Bytes of the stored tensors that values are computed from, but those in `seen`, to which these are added."""
    queue, total = list(values), 0
    while queue:
        value = queue.pop()
        if value in seen or value not in lookup.constants:
            continue
        seen.add(value)
        if value in lookup.stored:
            total += lookup.stored[value].ByteSize()
        elif value in lookup.makers:
            queue += lookup.makers[value].input
    return total
