"""Which convolution of the model each one of a graph is, read off what feeds what.

ncnn's graphs name layers by number, and the numbers change with the converter. The modules of
a checkpoint are rows of convolutions, C2f and SPPF blocks, upsamplings and concatenations in
order of execution (`yolodeploy_torch.structure`), and each of those leaves a pattern: a C2f block
slices what its first convolution makes, an SPPF block pools it, and both end with a convolution of
a concatenation.
"""

from __future__ import annotations

from dataclasses import dataclass

from yolodeploy.errors import StepFailed
from yolodeploy_ncnn.decode import find_decode
from yolodeploy_ncnn.param import Graph, Layer
from yolodeploy_torch.structure import Part

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthWise"})
_BLOCK_STARTS = frozenset({"Slice", "Pooling"})
_PASSING = frozenset({"Split", "Swish"})
_HEAD = ("2", "1.conv", "0.conv")  # a branch, from its end


@dataclass(frozen=True)
class Place:
    """A convolution's name in the checkpoint, and its part of the model."""

    name: str
    part: Part


def places(graph: Graph) -> dict[str, Place]:
    """The place of every convolution, by the name of its layer, in order of the graph.

    Raises StepFailed where the graph is no detector of this kind.
    """
    head = _head(graph)
    body, rows = _body(graph, head)
    upsampled = _upsampled(graph)
    found: dict[str, Place] = {}
    for layer in graph.layers:
        if layer.type not in CONVOLUTIONS:
            continue
        if layer.name in body:
            part: Part = "neck" if layer.name in upsampled else "backbone"
            found[layer.name] = Place(body[layer.name], part)
        else:
            name = head.get(layer.name, "dfl.conv")
            part = "dfl" if layer.name not in head else "head"
            part = "head.last" if name.endswith(".2") else part
            found[layer.name] = Place(f"model.{rows}.{name}", part)
    return found


def source(graph: Graph, blob: str) -> str:
    """The blob that a blob is a copy of: ncnn copies what several layers read."""
    while graph.producers[blob].type == "Split":
        blob = graph.producers[blob].inputs[0]
    return blob


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
                found[layer.name] = f"{branches}.{level}.{name}"
    return found


def _branch(graph: Graph, blob: str) -> list[Layer]:
    """The convolutions from a blob back to the map that several branches read."""
    found = []
    while (layer := graph.producers[blob]).type in CONVOLUTIONS | {"Swish"}:
        if layer.type != "Swish":
            found.append(layer)
        (blob,) = layer.inputs
    return found


def _body(graph: Graph, head: dict[str, str]) -> tuple[dict[str, str], int]:
    """Names of the convolutions before the head, by layer, and the number of rows."""
    decode = find_decode(graph)
    found: dict[str, str] = {}
    row, inside = (
        -1,
        -1,
    )  # inside: how many convolutions the open block has so far; -1: none is open
    for layer in graph.layers:
        if layer.name in decode.layers or layer.name in head or layer in decode.joins:
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
    """Types of the layers that read what a convolution makes, behind its activation."""
    blobs, types = set(layer.outputs), set()
    for reader in graph.layers:
        if blobs.isdisjoint(reader.inputs):
            continue
        if reader.type in _PASSING:
            blobs.update(reader.outputs)
        else:
            types.add(reader.type)
    return frozenset(types)


def _upsampled(graph: Graph) -> frozenset[str]:
    """Names of the layers that an upsampled map reaches."""
    blobs: set[str] = set()
    found: set[str] = set()
    for layer in graph.layers:
        if layer.type == "Interp" or not blobs.isdisjoint(layer.inputs):
            blobs.update(layer.outputs)
            found.add(layer.name)
    return frozenset(found)
