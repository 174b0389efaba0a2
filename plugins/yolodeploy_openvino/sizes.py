"""Where the bytes of an IR's weights are, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yolodeploy.backend import LayerBytes
from yolodeploy.compress import weigh
from yolodeploy_openvino.graph import find_structure, sources
from yolodeploy_openvino.layers import bias_source, form
from yolodeploy_openvino.toolchain import read_model


def layer_bytes(folder: Path) -> tuple[LayerBytes, ...]:
    """What every convolution takes: constants of its weights and bias, those that several share with the first."""
    model = read_model(folder)
    structure = find_structure(model, folder)
    layers = structure.convolutions(model)
    seen, sizes = set[str](), dict[str, int]()
    for name, node in layers.items():
        sizes[name] = _constant_bytes([sources(node)[1], *bias_source(node)], seen)
    return weigh(structure.parts, {name: form(node) for name, node in layers.items()}, sizes)


def _constant_bytes(nodes: Iterable[Any], seen: set[str]) -> int:
    """Bytes of the constants that nodes are computed from, but those in `seen`, to which these are added."""
    queue, total = list(nodes), 0
    while queue:
        node = queue.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        if node.get_type_name() == "Constant":
            total += int(node.get_byte_size())
        queue += sources(node)
    return total
