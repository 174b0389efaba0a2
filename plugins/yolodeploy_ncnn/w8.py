"""The `w8` step: convolution weights as a codebook of 256 values and a byte per weight.

The values of each layer's codebook are chosen by k-means, so they lie where its weights do;
evenly spaced 8-bit numbers would spend most of theirs on the rare large weights. ncnn looks
the values up when it loads the model and computes as it does with float weights: the file gets
smaller, the speed stays.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from yolodeploy.errors import StepFailed
from yolodeploy.transforms import Params
from yolodeploy_ncnn import param, weights
from yolodeploy_ncnn.decode import find_decode
from yolodeploy_ncnn.export import BIN_FILE, PARAM_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from yolodeploy.backend import Artifact, Context

_CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthWise"})
_OUT_CHANNELS = 0


class W8(Params):
    """Store convolution weights in 8 bits: a codebook of 256 values per layer; compute in float."""


def run_w8(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001 - it has none
    """Compress the weights of a float artifact; the graph stays as it is, byte for byte.

    Layers that decode boxes stay float (the sum over distances would carry its weights'
    error into every box), and so do layers that a codebook would make larger. StepFailed
    where that leaves nothing to do, or the weights do not fit the graph.
    """
    graph = param.read(artifact.path / PARAM_FILE)
    source = artifact.path / BIN_FILE
    try:
        data = source.read_bytes()
        chosen = _chosen(graph, weights.blocks(graph, data))
    except (OSError, ValueError) as error:
        raise StepFailed(f"{source.name}: {error}. The file is damaged; build it again.") from error
    if not chosen:
        raise StepFailed("no float weights are left that a codebook makes smaller. Remove `w8`.")
    result = context.work / "artifact"
    result.mkdir()
    (result / BIN_FILE).write_bytes(_compressed(data, chosen, context))
    shutil.copyfile(artifact.path / PARAM_FILE, result / PARAM_FILE)
    return result


def _chosen(graph: param.Graph, blocks: list[weights.Block]) -> list[weights.Block]:
    decode = find_decode(graph).layers
    return [
        block
        for block in blocks
        if block.tagged
        and block.layer.type in _CONVOLUTIONS
        and block.layer.name not in decode
        and weights.stored_size(block.count) < 4 + block.stop - block.start
    ]


def _compressed(data: bytes, chosen: list[weights.Block], context: Context) -> bytes:
    from yolodeploy.codebook import balance, kmeans

    parts, end = [], 0
    for number, block in enumerate(chosen, 1):
        matrix = block.floats(data).reshape(block.layer.number(_OUT_CHANNELS), -1)
        codebook = kmeans(matrix, weights.ENTRIES, balance(matrix))
        parts += [data[end : block.start - 4], weights.stored(codebook)]
        end = block.stop
        context.progress(number / len(chosen), f"{number}/{len(chosen)} layers")
    return b"".join([*parts, data[end:]])
