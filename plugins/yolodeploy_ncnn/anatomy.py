"""A network taken apart: its lines, and the weights of every layer."""

from __future__ import annotations

from collections.abc import Mapping

from yolodeploy.backend import Artifact
from yolodeploy.parts import content
from yolodeploy_ncnn import model
from yolodeploy_ncnn.export import BIN_FILE, PARAM_FILE


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """Parts of both files by the name of the layer; its blocks of weights are numbered."""
    loaded = model.read(artifact)
    lines = {layer.name: str(layer) for layer in loaded.graph.layers}
    blocks: dict[str, str] = {}
    counts: dict[str, int] = {}
    for block in loaded.blocks:
        name = block.layer.name
        counts[name] = counts.get(name, 0) + 1
        data = loaded.data[block.start - 4 * block.tagged : block.stop]
        blocks[f"{name} block {counts[name]}"] = content(data)
    return {PARAM_FILE: lines, BIN_FILE: blocks}
