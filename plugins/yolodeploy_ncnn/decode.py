"""Keep the decoding of boxes in fp32, whatever arithmetic an app lets ncnn use.

On Arm CPUs ncnn computes in fp16 unless told otherwise, also for a model whose weights are
stored as fp32. An fp16 number has 11 significant bits: between 256 and 512 pixels its step
is a quarter of a pixel, and decoding rounds a dozen times (softmax over distances, anchor
plus distance, times stride). All of that is lost after the network has done its work, so
the layers from the head's concatenations to the output are held back.

Two changes to the graph do that, and none to the weights:

* Each of these layers gets the feature mask `31=3`, which turns off fp16 arithmetic (1)
  and fp16 storage (2) for that layer (ncnn, src/net.cpp, `get_masked_option`).
* An identity layer is put between each concatenation and decoding. A masked layer does
  not convert its input (`convert_layout` casts to fp16 or leaves alone), so it would take
  fp16 data for fp32. A `Dropout` with scale 1 has no fp16 code; ncnn hands such a layer
  fp32 and the layers after it stay there.

Measured on an emulated Arm CPU with a YOLOv8n at 320 pixels: the error of decoding falls
from 0.57 to 0.0001 pixels. On x86, where ncnn has no fp16 arithmetic, the output does not
change by a bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from yolodeploy.errors import StepFailed
from yolodeploy_ncnn.param import Graph, Layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FEATURE_MASK = 31
NO_FP16 = "3"
NO_FP16_ARITHMETIC = "1"


@dataclass(frozen=True)
class Decode:
    """The end of a detector, found from its output backwards.

    `joins` are the concatenations that bring the scales together (`[channels, anchors]`),
    `scores` the one of them that holds the class scores, `layers` the names of the layers behind them, `classes` and `anchors` the sizes of the
    output `[4 + classes, anchors]`.
    """

    joins: tuple[Layer, ...]
    scores: Layer
    layers: frozenset[str]
    classes: int
    anchors: int


def keep_fp32(graph: Graph, *, everywhere: bool = False) -> Graph:
    """Return the graph with its decoding masked from fp16 and cut off by identity layers.

    With `everywhere` the layers before it compute in fp32 too; blobs between them may
    still be stored as fp16.
    """
    decode = find_decode(graph)
    before = {FEATURE_MASK: NO_FP16_ARITHMETIC} if everywhere else {}
    return Graph(tuple(_rewrite(graph, decode, before)))


def _rewrite(graph: Graph, decode: Decode, before: Mapping[int, str]) -> Iterator[Layer]:
    for layer in graph.layers:
        if layer in decode.joins:
            (blob,) = layer.outputs
            raw = f"{blob}_any"
            yield replace(layer.with_params(before), outputs=(raw,))
            yield Layer("Dropout", f"fp32_{layer.name}", (raw,), (blob,), {})
        elif layer.name in decode.layers:
            yield layer.with_params({FEATURE_MASK: NO_FP16})
        else:
            yield layer.with_params(before)


def find_decode(graph: Graph) -> Decode:
    """Walk back from the output to the concatenations of flattened feature maps.

    Names are not looked at: a join is a Concat that reads nothing but Reshape layers.
    StepFailed where a path from the output meets no join before the input.
    """
    joins: list[Layer] = []
    layers: dict[str, Layer] = {}
    pending = [graph.output]
    while pending:
        layer = graph.producers[pending.pop()]
        if layer.type == "Input":
            raise StepFailed(
                "The end of the network is not a YOLO detection head: no Concat of Reshape "
                f"layers lies between its input and {graph.output}. Export a detection model."
            )
        if _is_join(graph, layer):
            joins += [layer] if layer not in joins else []
        elif layer.name not in layers:
            layers[layer.name] = layer
            pending += layer.inputs
    sizes = {join.outputs[0]: _size(graph, join) for join in joins}
    scores = _source(graph, layers, sizes)
    return Decode(tuple(joins), graph.producers[scores], frozenset(layers), *sizes[scores])


def _is_join(graph: Graph, layer: Layer) -> bool:
    return layer.type == "Concat" and all(
        graph.producers[blob].type == "Reshape" for blob in layer.inputs
    )


def _size(graph: Graph, join: Layer) -> tuple[int, int]:
    parts = [graph.producers[blob] for blob in join.inputs]
    return parts[0].number(1), sum(part.number(0) for part in parts)


def _source(graph: Graph, layers: dict[str, Layer], sizes: dict[str, tuple[int, int]]) -> str:
    """Blob of the join that the class scores come from: the one that a Sigmoid reads."""
    sigmoids = [layer for layer in layers.values() if layer.type == "Sigmoid"]
    if len(sigmoids) != 1:
        raise StepFailed(f"Decoding has {len(sigmoids)} Sigmoid layers; a detection head has one.")
    blob = sigmoids[0].inputs[0]
    while blob not in sizes:
        blob = graph.producers[blob].inputs[0]
    return blob
