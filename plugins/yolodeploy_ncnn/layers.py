"""Which convolution of the checkpoint each convolution of a graph is, and its part of the model.

ncnn's graphs name layers by number, and the numbers change with the converter. The modules of a
checkpoint are rows of convolutions, C2f and SPPF blocks, upsamplings and concatenations in order of
execution (`yolodeploy_torch.model.convolutions`), and each of those leaves a pattern: a C2f block
slices the output of its first convolution, an SPPF block pools it, and both end with a convolution
of a concatenation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from yolodeploy.compress import Kind, Node, Part, find_parts
from yolodeploy.errors import StepFailed
from yolodeploy_ncnn.decode import find_decode
from yolodeploy_ncnn.param_file import Graph, Layer

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthWise"})
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(CONVOLUTIONS, "convolution"),
    "Interp": "upsample",
    "Softmax": "softmax",
    "MemoryData": "constant",
}
_BLOCK_STARTS = frozenset({"Slice", "Pooling"})
_PASSING = frozenset({"Split", "Swish"})
_HEAD = ("2", "1.conv", "0.conv")  # the convolutions of a branch, from its end


@dataclass(frozen=True)
class Place:
    """A convolution's name in the checkpoint, and its part of the model."""

    name: str
    part: Part


def places(graph: Graph) -> dict[str, Place]:
    """The place of every convolution, by the name of its layer, in order of the graph.

    Raises StepFailed if the graph is not that of a YOLOv8 detector.
    """
    parts = _parts(graph)
    names, rows = _body(graph, parts)
    names |= {layer: f"model.{rows}.{name}" for layer, name in _head(graph).items()}
    return {
        layer.name: Place(names.get(layer.name, f"model.{rows}.dfl.conv"), parts[layer.name])
        for layer in graph.layers
        if layer.type in CONVOLUTIONS
    }


def source(graph: Graph, blob: str) -> str:
    """The blob that a blob is a copy of: ncnn copies what several layers read."""
    while graph.producers[blob].type == "Split":
        blob = graph.producers[blob].inputs[0]
    return blob


def _parts(graph: Graph) -> dict[str, Part]:
    """The part of every layer that has one, by name."""

    def makers(blobs: Iterable[str]) -> tuple[str, ...]:
        return tuple(graph.producers[blob].name for blob in blobs)

    nodes = [
        Node(layer.name, _KINDS.get(layer.type, "other"), makers(layer.inputs))
        for layer in graph.layers
    ]
    return find_parts(nodes, makers([graph.output]))


def _head(graph: Graph) -> dict[str, str]:
    """Names below the head of the convolutions of its branches, by layer."""
    decode = find_decode(graph)
    found: dict[str, str] = {}
    for join in decode.joins:
        branches = "cv3" if join == decode.scores else "cv2"
        for level, flat in enumerate(join.inputs):
            chain = _branch(graph, graph.producers[flat].inputs[0])
            if len(chain) != len(_HEAD):
                raise StepFailed(
                    f"{join.name}: a branch of the head has {len(chain)} convolutions, where a YOLOv8 "
                    "head has 3. Export a YOLOv8 detection model."
                )
            for layer, name in zip(chain, _HEAD, strict=True):
                found[layer] = f"{branches}.{level}.{name}"
    return found


def _branch(graph: Graph, blob: str) -> list[str]:
    """Names of the convolutions from a blob back to the map that several branches read."""
    found = []
    while (layer := graph.producers[blob]).type in CONVOLUTIONS | {"Swish"}:
        if layer.type != "Swish":
            found.append(layer.name)
        (blob,) = layer.inputs
    return found


def _body(graph: Graph, parts: Mapping[str, Part]) -> tuple[dict[str, str], int]:
    """Names of the convolutions before the head, by layer, and the number of rows."""
    found: dict[str, str] = {}
    row = -1
    inside = -1  # the number of convolutions so far in the open block; -1: no block is open
    for layer in graph.layers:
        if parts.get(layer.name, "backbone") not in ("backbone", "neck"):
            continue
        if layer.type == "Interp" or (layer.type == "Concat" and inside < 0):
            row += 1
        if layer.type not in CONVOLUTIONS:
            continue
        if inside < 0:
            row += 1
            starts = bool(_BLOCK_STARTS & _readers(graph, layer))
            found[layer.name] = f"model.{row}.{'cv1.' * starts}conv"
            inside = 0 if starts else -1
        elif graph.producers[layer.inputs[0]].type == "Concat":
            found[layer.name] = f"model.{row}.cv2.conv"
            inside = -1
        else:
            found[layer.name] = f"model.{row}.m.{inside // 2}.cv{inside % 2 + 1}.conv"
            inside += 1
    return found, row + 1


def _readers(graph: Graph, layer: Layer) -> frozenset[str]:
    """Types of the layers that read the output of a convolution, behind its activation."""
    blobs, types = set(layer.outputs), set()
    for reader in graph.layers:
        if blobs.isdisjoint(reader.inputs):
            continue
        if reader.type in _PASSING:
            blobs.update(reader.outputs)
        else:
            types.add(reader.type)
    return frozenset(types)
