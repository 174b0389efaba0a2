"""Takes an artifact apart, into the lines of its graph and the weights of its layers."""

from __future__ import annotations

from collections.abc import Mapping

from yolodeploy.backend import Artifact, content
from yolodeploy_ncnn import model
from yolodeploy_ncnn.bin_file import BIN_FILE
from yolodeploy_ncnn.param_file import PARAM_FILE


def parts(artifact: Artifact) -> Mapping[str, Mapping[str, str]]:
    """The parts of both files by the name of the layer; its blocks of weights are numbered."""
    loaded = model.read(artifact)
    lines = {layer.name: str(layer) for layer in loaded.graph.layers}
    blocks = {
        f"{name} block {number}": content(loaded.data[block.start - 4 * block.tagged : block.stop])
        for name in lines
        for number, block in enumerate(loaded.blocks_of(name), 1)
    }
    return {PARAM_FILE: lines, BIN_FILE: blocks}
