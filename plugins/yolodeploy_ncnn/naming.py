"""Giving the layers of a converted graph the names that they have in the checkpoint.

pnnx numbers the layers that it writes. Which of the checkpoint's layers each one is follows from its
weights, which pnnx keeps, bit for bit or rounded to fp16.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed
from yolodeploy_ncnn.bin_file import OUT_CHANNELS, blocks
from yolodeploy_ncnn.layers import WEIGHTED
from yolodeploy_ncnn.param_file import Graph, Layer

# fp16 numbers as the upper bits of fp32 numbers: exponent, then 10 bits of the mantissa
_DROPPED = 13
_HALF = 1 << (_DROPPED - 1)
_SMALLEST = (127 - 14) << 10
_INFINITE = (127 + 16) << 10

Floats = NDArray[np.float32]


def named(graph: Graph, data: bytes, weights: Mapping[str, Sequence[Floats]]) -> Graph:
    """Return the graph with every layer that has weights named as in the checkpoint.

    `data` is the content of the `.bin` file; `weights` holds the tensors of every layer of the checkpoint
    (weight, then bias if there is one), by name, in order of execution. Layers with the same weights
    are told apart by their order. Raises StepFailed unless the layers are exactly those of `weights`.
    """
    known: dict[str, list[str]] = defaultdict(list)
    for name, tensors in weights.items():
        known[_signature(len(tensors[0]), tensors)].append(name)
    names: dict[str, str] = {}
    for layer, tensors in _stored(graph, data).items():
        candidates = known[_signature(graph.layer(layer).number(OUT_CHANNELS), tensors)]
        if not candidates:
            raise StepFailed(
                f"pnnx wrote a layer {layer} whose weights are those of no layer of the model. Try the pnnx "
                "version that the recipe's lock file names."
            )
        names[layer] = candidates.pop(0)
    left = [name for name in weights if name not in names.values()]
    if left:
        raise StepFailed(
            f"pnnx left out {len(left)} layers of the model, such as {left[0]}. Try the pnnx version that "
            "the recipe's lock file names."
        )
    return Graph(tuple(_renamed(graph, names)))


def _renamed(graph: Graph, names: Mapping[str, str]) -> Iterator[Layer]:
    """The layers with these names; of others that share a name, as pnnx's copies may, all but one get a number."""
    used: Counter[str] = Counter(names.values())
    for layer in graph.layers:
        if layer.name in names:
            yield replace(layer, name=names[layer.name])
        else:
            used[layer.name] += 1
            again = f"_again{used[layer.name] - 1}" if used[layer.name] > 1 else ""
            yield replace(layer, name=layer.name + again)


def _stored(graph: Graph, data: bytes) -> dict[str, list[Floats]]:
    """The tensors of every layer with weights, by its name in the graph."""
    found: dict[str, list[Floats]] = {}
    for block in blocks(graph, data):
        if block.layer.type in WEIGHTED:
            found.setdefault(block.layer.name, []).append(block.floats(data))
    return found


def _signature(outputs: int, tensors: Iterable[Floats]) -> str:
    """A digest of a layer's tensors that does not change when pnnx stores them as fp16.

    It rounds ties away from zero, and writes numbers below the smallest normal one as 0.
    """
    digest = hashlib.sha256(str(outputs).encode())
    for tensor in tensors:
        bits = np.ascontiguousarray(tensor, np.float32).ravel().view(np.uint32)
        size = ((bits & 0x7FFFFFFF) + _HALF) >> _DROPPED
        size = np.where(size <= _SMALLEST, 0, np.minimum(size, _INFINITE))
        negative = (bits >> 31 != 0) & (size > 0)
        digest.update(size.astype("<u4").tobytes() + negative.tobytes())
    return digest.hexdigest()
