"""Keep the decoding of outputs in fp32, whatever arithmetic an app lets ncnn use.

On Arm CPUs ncnn computes in fp16 unless told otherwise, even if the weights are stored as fp32. An
fp16 number has 11 significant bits: between 256 and 512 pixels its step is a quarter of a pixel, and
decoding rounds a dozen times (softmax over distances, anchor plus distance, times stride). To keep
that precision, the layers between the head's last convolutions and the output compute in fp32.

Two changes to the graph do that, and none to the weights:

* Each of these layers gets the feature mask `31=3`, which turns off fp16 arithmetic (1)
  and fp16 storage (2) for that layer (ncnn, src/net.cpp, `get_masked_option`).
* An identity layer is put behind every blob that enters decoding. A masked layer does not convert
  its input (`convert_layout` casts to fp16 or does nothing), so it would read fp16 data as fp32. A
  `Dropout` with scale 1 has no fp16 code; ncnn gives such a layer fp32, and the layers after it stay
  in fp32.

A classifier's matrix, and the pooling in front of it, compute in fp32 as well: in fp16 ncnn also adds up in
fp16, and each probability depends on the sum of a thousand products. They take less than a hundredth of the time.

Layers that only join what the convolutions give stay in front of the identity: they round nothing,
and fewer blobs are left to convert.

On a GPU none of this would hold: ncnn's Vulkan code casts nothing behind the identity layer either, so masked layers
would read fp16 as fp32, which gives boxes that are hundreds of pixels off or not numbers. For a GPU the mask is therefore
`31=19`: the bit 16 keeps a layer on the CPU, and ncnn widens what it brings back from the GPU to fp32. The same file is
right on a CPU, too. docs/vulkan.md has the figures.

Measured on an emulated Arm CPU with a YOLOv8n at 320 pixels: the error of decoding falls
from 0.57 to 0.0001 pixels. On x86, where ncnn has no fp16 arithmetic, the output does not
change by a bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from yolodeploy.compress import Kind, Node, Part, decoding
from yolodeploy_ncnn.layers import MATRIX, WEIGHTED
from yolodeploy_ncnn.param_file import Graph, Layer

FEATURE_MASK = 31
NO_FP16 = "3"
NO_FP16_ARITHMETIC = "1"
ON_CPU = "19"

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(WEIGHTED, "convolution"),
    "MemoryData": "constant",
}
_LAST: frozenset[Part] = frozenset({"head.last", "head.keypoints", "head.angle"})


def keep_fp32(
    graph: Graph, parts: Mapping[str, Part], *, everywhere: bool = False, gpu: bool = False
) -> Graph:
    """Return the graph with its decoding masked from fp16 and separated by identity layers.

    `parts` are those of the layers with weights, by name. With `everywhere` the layers before decoding
    compute in fp32 too; blobs between them may still be stored as fp16. With `gpu` the decoding stays on the
    CPU where an app turns Vulkan on. Raises StepFailed if nothing
    is decoded behind the head's last convolutions.
    """
    inside = decode_layers(graph, parts)
    before = {FEATURE_MASK: NO_FP16_ARITHMETIC} if everywhere else {}
    mask = ON_CPU if gpu else NO_FP16
    return Graph(tuple(_rewrite(graph, inside, before, mask)))


def made_for_gpu(graph: Graph) -> bool:
    """Whether the decoding stays on the CPU where an app turns Vulkan on."""
    return any(layer.params.get(FEATURE_MASK) == ON_CPU for layer in graph.layers)


def decode_layers(graph: Graph, parts: Mapping[str, Part]) -> frozenset[str]:
    """Names of the layers that decode: the `dfl` and the constants that they alone read included."""

    def makers(blobs: Iterable[str]) -> tuple[str, ...]:
        return tuple(graph.producers[blob].name for blob in blobs)

    nodes = [
        Node(layer.name, _KINDS.get(layer.type, "other"), makers(layer.inputs))
        for layer in graph.layers
    ]
    last = {name for name, part in parts.items() if part in _LAST}
    inside = set(decoding(nodes, makers(graph.outputs), parts))
    inside.update(name for name, part in parts.items() if part == "dfl")
    inside -= _joining(graph, inside, last)
    inside |= _scoring(graph)
    constants = _constants(graph)
    for layer in reversed(graph.layers):
        readers = {graph.readers[blob] for blob in layer.outputs if blob in graph.readers}
        if layer.name in constants and readers and readers <= inside:
            inside.add(layer.name)
    return frozenset(inside)


def _scoring(graph: Graph) -> set[str]:
    """The matrix of a classifier and the pooling in front of it, which add up hundreds of products and values."""
    found: set[str] = set()
    for layer in graph.layers:
        reads = graph.producers[layer.inputs[0]] if layer.inputs else layer
        if layer.type == MATRIX and reads.type == "Pooling":
            found |= {layer.name, reads.name}
    return found


def _joining(graph: Graph, inside: set[str], last: set[str]) -> set[str]:
    """Layers that only join what the last convolutions give: each flattened, then concatenated."""
    found: set[str] = set()
    for layer in graph.layers:
        sources = {graph.producers[blob].name for blob in layer.inputs}
        flattens = layer.type == "Reshape" and sources <= last
        if layer.name in inside and (flattens or (layer.type == "Concat" and sources <= found)):
            found.add(layer.name)
    return found


def _constants(graph: Graph) -> set[str]:
    """Layers whose results do not depend on the image."""
    found: set[str] = set()
    for layer in graph.layers:
        if layer.type != "Input" and {graph.producers[blob].name for blob in layer.inputs} <= found:
            found.add(layer.name)
    return found


def _rewrite(
    graph: Graph, inside: frozenset[str], before: Mapping[int, str], mask: str
) -> Iterator[Layer]:
    """The layers of the new graph; `mask` is that of decoding, `before` are parameters of the layers in front of it."""
    for layer in graph.layers:
        if layer.name in inside:
            yield layer.with_params({FEATURE_MASK: mask})
            continue
        entering = [blob for blob in layer.outputs if graph.readers.get(blob) in inside]
        raw = {blob: f"{blob}_any" for blob in entering}
        outputs = tuple(raw.get(blob, blob) for blob in layer.outputs)
        yield replace(layer.with_params(before), outputs=outputs)
        for number, blob in enumerate(entering):
            name = f"fp32_{layer.name}" + f"_{number}" * (len(entering) > 1)
            yield Layer("Dropout", name, (raw[blob],), (blob,), {})
