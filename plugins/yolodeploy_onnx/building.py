"""From a model with the common interface to a graph of primitives, which must compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from yolodeploy.errors import ModelError
from yolodeploy.system import ImageShape, shown
from yolodeploy_onnx.examination import probe
from yolodeploy_onnx.graph import (
    NoPrimitive,
    Structure,
    Wanted,
    classification,
    finished,
    lowered,
    marked,
    told_apart,
    with_head,
)
from yolodeploy_onnx.interface import Model, Purpose
from yolodeploy_onnx.runtime import output_of
from yolodeploy_torch.graph import (
    IMAGE,
    AnyNode,
    Graph,
    OpenHead,
    Shape,
    Unsupported,
    build,
)

_PIXELS, _SCORE = (
    0.02,
    1e-4,
)  # how far a graph may be from the file, of the larger of 1 and the value's size
_SEVERAL = 3
Floats = NDArray[np.float32]
Built = tuple[Graph | ModelProto, Mapping[str, Tensor], str]


def built(
    model: Model,
    wanted: Wanted,
    steps: tuple[int, ...],
    expected: Sequence[Floats],
    path: Path,
) -> Built:
    """The graph of a model with the common interface, with its head if that is recognised; else the file itself.

    `expected` is what the file gives for the probe: the output, and prototypes of masks. Raises ModelError if the graph
    computes something else, and for a file that can only be passed on if it is not a detector.
    """
    purpose = wanted.purpose
    try:
        nodes, state, outputs = lowered(model)
        _require_any_number(nodes, model.imgsz, outputs)
    except NoPrimitive as error:
        if purpose.task != "detect":
            raise ModelError(
                f"{shown(path)} cannot be used: {error} cannot be read as an operation that yolodeploy knows, and only "
                f"detectors are passed on as they are. "
                f"Export the model for `{purpose.task}` without it, or give the checkpoint."
            ) from error
        proto = model.proto()
        _require_same((output_of(proto, probe(model.imgsz)),), expected, purpose, path)
        return proto, {}, str(error)
    wanted = replace(wanted, outputs=outputs)
    shapes = _shapes(nodes, model.imgsz)
    nodes = marked(nodes, shapes, outputs)
    structure = Structure(nodes, shapes)
    for graph, tensors in _known(structure, state, wanted):
        if _difference(_computed(graph, tensors, model.imgsz), expected, purpose) <= 1:
            return graph, tensors, ""
    graph = _open(structure, wanted, steps, path)
    _require_same(_computed(graph, state, model.imgsz), expected, purpose, path)
    return graph, state, ""


def _known(
    structure: Structure, state: Mapping[str, Tensor], wanted: Wanted
) -> Iterator[tuple[Graph, Mapping[str, Tensor]]]:
    """Graphs whose head is known, as it may be."""
    purpose = wanted.purpose
    if purpose.task != "classify":
        yield from with_head(structure, state, wanted)
        return
    found = classification(structure, wanted.outputs[0], purpose.names, wanted.imgsz.height)
    if found:
        head, nodes = found
        yield finished(nodes, head, wanted), state


def _open(structure: Structure, wanted: Wanted, steps: tuple[int, ...], path: Path) -> Graph:
    """The graph of a model of whose head only the output is known."""
    purpose = wanted.purpose
    if purpose.extras and wanted.selected == "one-to-one":
        raise ModelError(
            f"{shown(path)} cannot be used: its output has no duplicates, and how it decodes what belongs to "
            f"`{purpose.task}` is not known. Export it with all anchors, before it selects the best, and write "
            "`head: {kind: one-to-many}`."
        )
    head = OpenHead(
        names=purpose.names,
        strides=steps,
        output=wanted.outputs[0],
        task=purpose.task,
        prototypes=wanted.outputs[1] if len(wanted.outputs) > 1 else None,
        kpt_shape=purpose.kpt_shape,
    )
    return finished(told_apart(structure, wanted), head, wanted)


def _shapes(nodes: tuple[AnyNode, ...], imgsz: ImageShape, count: int = 1) -> dict[str, Shape]:
    """The shape of every value for so many images; raises `NoPrimitive` if a node takes one image alone."""
    found: dict[str, Shape] = {IMAGE: (count, *imgsz.batch[1:])}
    for node in nodes:
        try:
            made = node.shapes(*(found[value] for value in node.inputs))
        except Unsupported as error:
            raise NoPrimitive(f"the node {node.name} ({node.op}), for one image alone") from error
        found.update(zip(node.outputs, made, strict=True))
    return found


def _require_any_number(
    nodes: tuple[AnyNode, ...], imgsz: ImageShape, outputs: Sequence[str]
) -> None:
    """Raise `NoPrimitive` if the nodes can only compute one image at a time: training needs several."""
    shapes = _shapes(nodes, imgsz, _SEVERAL)
    if any(shapes[output][0] != _SEVERAL for output in outputs):
        raise NoPrimitive("its output, for one image alone")


def _computed(graph: Graph, state: Mapping[str, Tensor], imgsz: ImageShape) -> tuple[Floats, ...]:
    """What a graph gives for the probe; there is another image beside it, which must make no difference."""
    image = torch.from_numpy(probe(imgsz))
    with torch.inference_mode():
        made = build(graph, state)(torch.cat([image, 1 - image]))
    values = made if isinstance(made, tuple) else (made,)
    return tuple(value[:1].numpy() for value in values)


def _require_same(
    found: Sequence[Floats], expected: Sequence[Floats], purpose: Purpose, path: Path
) -> None:
    if _difference(found, expected, purpose) > 1:
        raise ModelError(
            f"{shown(path)} cannot be used: read node by node it computes something else than ONNX Runtime does with it. "
            "Please report this, with the file if you can."
        )


def _difference(found: Sequence[Floats], expected: Sequence[Floats], purpose: Purpose) -> float:
    """The largest difference, as a multiple of what is allowed."""
    return max(
        _apart(one, other, purpose if place == 0 else None)
        for place, (one, other) in enumerate(zip(found, expected, strict=True))
    )


def _apart(found: Floats, expected: Floats, purpose: Purpose | None) -> float:
    """The same for one output: prototypes of masks if it has no purpose.

    Prototypes and their coefficients are parts of sums, so they are compared with the largest of their channel.
    """
    if found.shape != expected.shape:
        return float("inf")
    rows = expected.shape[1]
    apart, size = (abs(v).reshape(rows, -1) for v in (found - expected, expected))
    allowed, sums = np.full((rows, 1), _SCORE), slice(rows)
    if purpose:
        allowed[_pixels(purpose)] = _PIXELS
        sums = slice(rows - purpose.extras if purpose.task == "segment" else rows, rows)
    size[sums] = size[sums].max(1, keepdims=True)
    return float((apart / np.maximum(1, size) / allowed).max())


def _pixels(purpose: Purpose) -> list[int]:
    """The numbers of an anchor that are in pixels: its box, and the places of keypoints."""
    if purpose.task == "classify":
        return []
    first = 4 + len(purpose.names)
    count, numbers = purpose.kpt_shape or (0, 1)
    starts = range(first, first + count * numbers, numbers)
    return [*range(4), *(start + axis for start in starts for axis in (0, 1))]
