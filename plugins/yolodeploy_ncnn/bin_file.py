"""The `.bin` file of ncnn: the weights of every layer, in the order of the graph.

Format (ncnn, src/modelbin.cpp and the `load_model` of each layer): weights start with a 32-bit tag
for their storage and are padded to 4 bytes; biases and constants are bare fp32; a layer that computes
in int8 has the scales of its weights and of its input after them. Little-endian throughout. Tags are
0 (fp32), a number each for fp16, int8 and raw fp32, and every other number for a codebook: 256 fp32
values, then a byte per weight, its index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolodeploy_ncnn.param_file import Graph, Layer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.compress import Codebook

BIN_FILE = "model.ncnn.bin"
FP32 = 0
FP16 = 0x01306B47
INT8 = 0x000D4B38
CODEBOOK = 1  # any number but ncnn's own will do; this is the one that is written and read here
ENTRIES = 256
TAG_BYTES = 4
FLOATS = frozenset({FP32, FP16})
_BYTES: Mapping[int, int] = {FP32: 4, FP16: 2, INT8: 1, CODEBOOK: 1}

OUT_CHANNELS = 0  # parameter numbers of every layer with weights
INT8_SCALES = 8
GROUPS = 7
PER_GROUP = (
    1  # value of INT8_SCALES in a grouped convolution: a scale of the weights for each group
)
# Parameter numbers of (count of weights, whether there is a bias, length of the bias).
_LAYOUT: Mapping[str, tuple[int, int, int]] = {
    "Convolution": (6, 5, 0),
    "ConvolutionDepthWise": (6, 5, 0),
    "Deconvolution": (6, 5, 0),
    "InnerProduct": (2, 1, 0),
}


@dataclass(frozen=True)
class Block:
    """`count` numbers of a layer at `data[start:stop]`; `tag` is FP32, FP16, INT8 or CODEBOOK.

    `tagged` blocks have the tag in the four bytes before `start`.
    """

    layer: Layer
    tag: int
    count: int
    start: int
    stop: int
    tagged: bool

    def floats(self, data: bytes) -> NDArray[np.float32]:
        """The numbers as float32 `[count]`, however they are stored; int8 without its scale."""
        import numpy as np

        if self.tag == CODEBOOK:
            table = np.frombuffer(data, "<f4", ENTRIES, self.start)
            return table[np.frombuffer(data, np.uint8, self.count, self.start + table.nbytes)]
        kind = "i1" if self.tag == INT8 else f"<f{_BYTES[self.tag]}"
        return np.frombuffer(data, kind, self.count, self.start).astype(np.float32)


def int8_block(values: NDArray[np.int8]) -> bytes:
    """Weights in int8 as the file holds them, tag included."""
    return _tagged(INT8, values.tobytes())


def codebook_block(codebook: Codebook) -> bytes:
    """Weights as a codebook as the file holds them, tag included."""
    return _tagged(CODEBOOK, codebook.values.astype("<f4").tobytes() + codebook.indices.tobytes())


def codebook_size(count: int) -> int:
    """Bytes of `count` weights as a codebook, tag included."""
    return 4 + _size(CODEBOOK, count)


def _tagged(tag: int, data: bytes) -> bytes:
    return tag.to_bytes(4, "little") + data + bytes(-len(data) % 4)


def replaced(data: bytes, found: Iterable[Block], layers: Mapping[str, bytes]) -> bytes:
    """The file with all blocks of some layers, tags included, replaced by the bytes in `layers`."""
    parts: list[bytes] = []
    written: set[str] = set()
    for block in found:
        name = block.layer.name
        if name not in layers:
            parts.append(data[block.start - 4 * block.tagged : block.stop])
        elif name not in written:
            parts.append(layers[name])
            written.add(name)
    return b"".join(parts)


def blocks(graph: Graph, data: bytes) -> list[Block]:
    """Find the weights of all layers; ValueError if file and graph do not fit together."""
    found: list[Block] = []
    end = 0
    for layer in graph.layers:
        for tagged, count in _parts(layer):
            found.append(_block(layer, data, end, count, tagged=tagged))
            end = found[-1].stop
    if end != len(data):
        raise ValueError(f"{len(data)} bytes, but the graph needs {end}")
    return found


def _parts(layer: Layer) -> Iterator[tuple[bool, int]]:
    """For every block of a layer, whether it has a tag and how many numbers it holds."""
    if layer.type == "MemoryData":
        count = 1
        for key in (0, 1, 2, 11):
            count *= layer.number(key, 0) or 1
        yield layer.number(21, 1) != 1, count
    elif layer.type in _LAYOUT:
        weights, has_bias, bias = _LAYOUT[layer.type]
        yield True, layer.number(weights)
        if layer.number(has_bias, 0):
            yield False, layer.number(bias)
        if form := layer.number(INT8_SCALES, 0):
            yield False, layer.number(GROUPS if form == PER_GROUP else OUT_CHANNELS)
            yield False, 1


def _block(layer: Layer, data: bytes, end: int, count: int, *, tagged: bool) -> Block:
    tag = int.from_bytes(data[end : end + 4], "little") if tagged else FP32
    if tag not in _BYTES:
        raise ValueError(f"the weights of {layer.name} have the unknown storage tag {tag:#x}")
    if count < 0:
        raise ValueError(f"{layer.name} has {count} weights")
    start = end + 4 * tagged
    stop = start + _size(tag, count)
    if stop > len(data):
        raise ValueError(f"{len(data)} bytes, but {layer.name} ends at {stop}")
    return Block(layer, tag, count, start, stop, tagged)


def _size(tag: int, count: int) -> int:
    table = 4 * ENTRIES if tag == CODEBOOK else 0
    return table + (count * _BYTES[tag] + 3) // 4 * 4
