"""Read the graph and the weights off the tree of modules in a checkpoint.

Every number is read off the objects themselves, so models of any width and depth work. A row of the model reads
the results of the rows that its `f` names.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any, Literal

from yolodeploy.recipe import Head
from yolodeploy.system import GREY, RGB
from yolodeploy_torch.checkpoint.block import Block, modules, stored, table
from yolodeploy_torch.checkpoint.blocks.elan import cb_fuse
from yolodeploy_torch.checkpoint.heads import CLASSIFIERS, HEADS
from yolodeploy_torch.checkpoint.heads.branches import strides_of
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.checkpoint.weights import Weight
from yolodeploy_torch.graph import IMAGE, Detection, Graph, Unsupported, reference_size

_MAX_SOURCES = 16
_COUNTER = "num_batches_tracked"  # of a batch normalisation, which computes nothing with it
# Labels are written one to a line, and shown on terminals.
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|.{256}")


def graph_of(root: Node, size: int) -> tuple[Graph, dict[str, Weight]]:
    """The graph of a model and its weights, out of a file of `size` bytes.

    Raises `Unsupported` if it cannot be read.
    """
    tensors = _tensors(root, size)
    whole = Block(root)
    rows = whole.child("model").children()
    sources = [_numbers(row, number) for number, row in enumerate(rows)]
    lowering = HEADS.get(rows[-1].kind) if rows else None
    if lowering is None:
        raise Unsupported("its last layer is not the head of a known task")
    names, channels = _names(root), _image_channels(rows)
    # The strides that a classifier states are those of no map.
    strides = () if rows[-1].kind in CLASSIFIERS else strides_of(root, rows[-1])
    to = Builder(channels, reference_size(strides))
    made = _body(to, rows[:-1], sources)
    maps = tuple(single(made[source + 1], rows[-1]) for source in sources[-1])
    head = lowering(to, rows[-1], maps, names, root)
    # A model that has a head without duplicates was made for it.
    single_match = isinstance(head, Detection) and "one-to-one" in head.branches
    selected: Head = "one-to-one" if single_match else "one-to-many"
    graph = Graph(channels=channels, nodes=tuple(to.nodes), head=head, selected=selected)
    if unread := sorted(tensors - whole.read):
        raise Unsupported(f"its weight {unread[0]} does not belong to the layers that it names")
    return graph, to.state


def _tensors(root: Node, size: int) -> set[str]:
    """The names of all tensors that its layers compute with.

    Refuses weights that are views of the same few numbers, which a small file could blow up.
    """
    total, found = 0, set[str]()
    for prefix, node in modules(root):
        transient = node.state.get("_non_persistent_buffers_set")
        left_out = {_COUNTER, *(transient if isinstance(transient, set) else ())}
        for name, value in {**table(node, "_parameters"), **table(node, "_buffers")}.items():
            if value is not None and name not in left_out:
                total += stored(value, f"{prefix}{name}").nbytes
                found.add(f"{prefix}{name}")
    if total > size:
        raise Unsupported("its weights take more bytes than the file has")
    return found


def _body(to: Builder, rows: list[Block], sources: list[tuple[int, ...]]) -> list[Value]:
    """Add all rows before the head; the part `neck` is what depends on a row that enlarges a map."""
    made: list[Value] = [IMAGE]  # the results, behind the image
    enlarged = {-1: False}
    for number, row in enumerate(rows):
        values = tuple(made[source + 1] for source in sources[number])
        neck = any(enlarged[source] for source in sources[number])
        with to.mark("neck" if neck else "backbone"):
            if row.kind == "CBFuse":
                made.append(cb_fuse(to, row, values))
            else:
                flat = tuple(single(value, row) for value in values)
                made.append(to.lower(row, flat[0] if len(flat) == 1 else flat))
        enlarged[number] = neck or row.kind in ("Upsample", "ConvTranspose2d")
    return made


def _numbers(row: Block, number: int) -> tuple[int, ...]:
    """The rows that a row reads; -1 is the image."""
    value = row.node.state.get("f")
    given: list[Any] = value if isinstance(value, list) else [value]
    if len(given) > _MAX_SOURCES:
        raise Unsupported(f"{row.what} reads from more than {_MAX_SOURCES} layers")
    if not given or not all(type(each) is int for each in given):
        raise Unsupported(f"{row.what} does not say which layers it reads")
    if not all(-number - 1 <= each < number for each in given):
        raise Unsupported(f"{row.what} reads layers that do not come before it")
    return tuple(number + each if each < 0 else each for each in given)


def _image_channels(rows: list[Block]) -> Literal[1, 3]:
    """Channels of the image, read off the first convolution."""
    block = rows[0]
    while block.kind != "Conv2d":
        if block.kind in ("Identity", "Silence"):
            rows = rows[1:]
            block = rows[0]
            continue
        names = [name for name in ("conv", "cv1", "0") if block.has(name)]
        if not names:
            raise Unsupported("its first layer is not a convolution")
        block = block.child(names[0])
    channels = block.weight("weight", 4).shape[1]
    if channels == RGB:
        return 3
    if channels == GREY:
        return 1
    raise Unsupported(
        f"it takes images of {channels} channels, and only 3 (RGB) and 1 (grey) are supported"
    )


def _names(root: Node) -> tuple[str, ...]:
    raw = root.state.get("names")
    if not isinstance(raw, dict | list):
        raise Unsupported(f"its {root.kind} has no usable `names`")
    table = dict(enumerate(raw)) if isinstance(raw, list) else raw
    if all(type(key) is int for key in table):
        table = dict(sorted(table.items()))
    if list(table) != list(range(len(table))):
        first = reprlib.repr(list(table)[:5])
        raise Unsupported(f"its class numbers are {first}..., not 0, 1, 2, ...")
    names = tuple(name for name in table.values() if isinstance(name, str))
    if len(names) != len(table) or not names:
        raise Unsupported("its class names are missing, or are not text")
    odd = next((name for name in names if _ODD.search(name)), None)
    if odd is not None:
        raise Unsupported(
            f"its class name {reprlib.repr(odd)} is too long, or has characters that cannot be shown"
        )
    return names
