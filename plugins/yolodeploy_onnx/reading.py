"""From an ONNX file to a graph of primitives, or to a file with the common interface where it has other operations."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from yolodeploy.errors import ModelError
from yolodeploy.recipe import Head, Layout, Preprocess
from yolodeploy.system import GREY, ImageShape, quotable, shown
from yolodeploy_onnx.examination import Examined, examine, probe
from yolodeploy_onnx.graph import NoPrimitive, Structure, lowered, marked, with_head
from yolodeploy_onnx.interface import (
    Form,
    Model,
    Unclear,
    common,
    end_in_common,
    recognise,
    selecting,
    strides,
    take_plain_images,
)
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.runtime import outputs_of
from yolodeploy_torch.graph import IMAGE, AnyNode, Graph, OpenHead, Shape, Unsupported, build

_PIXELS, _SCORE = (
    0.02,
    1e-4,
)  # how far a graph may be from the file, of the larger of 1 and the value's size
_MOST_CLASSES, _MOST_LETTERS = 10_000, 200
_ROWS_COMPARED, _SEVERAL = 50, 3
_ROW_PIXELS, _ROW_SCORE = 0.5, 1e-3
_FRACTIONS = 2.0  # a box in fractions of the image reaches no further
Floats = NDArray[np.float32]


class Nameless(ModelError, exit_code=ModelError.exit_code, kind=ModelError.kind):
    """A file that does not name its classes, and nothing else does."""


@dataclass(frozen=True)
class Read:
    """A model that was read: its graph and tensors, or the whole file and the `obstacle` that is no primitive."""

    names: tuple[str, ...]
    strides: tuple[int, ...]
    imgsz: ImageShape
    fixed: bool
    selected: Head
    model: Graph | ModelProto
    state: Mapping[str, Tensor]
    obstacle: str = ""
    stored: Mapping[str, int] = field(default_factory=dict)


def read(path: Path, params: LoadOnnx, imgsz: ImageShape | None) -> Read:
    """Read a file for images of a size; None: its own. Raises ModelError for what cannot be used."""
    preprocess = params.preprocess or Preprocess()
    found = examine(path, imgsz, preprocess)
    names = _names(found.metadata, params, path)
    model = Model(found.model, found.image, found.imgsz)
    for values in (found.outputs, *found.cuts):
        model.measured({name: value.shape for name, value in values.items()})
    try:
        form, expected, single = _understood(model, found, len(names), params.layout)
    except Unclear as error:
        raise ModelError(
            f"{shown(path)} cannot be used: {error}. Give a data set with the model's classes, say what the outputs are "
            "with `head: {layout: ...}`, or export the network without its post-processing."
        ) from error
    selected: Head = "one-to-one" if single else "one-to-many"
    end_in_common(model, form)
    take_plain_images(model, preprocess)
    steps = strides(expected.shape[2], found.imgsz)
    result = _built(model, names, steps, params.head or selected, expected, path)
    fixed = not found.dynamic
    return Read(names, steps, found.imgsz, fixed, params.head or selected, *result, found.stored)


def _built(
    model: Model,
    names: tuple[str, ...],
    steps: tuple[int, ...],
    selected: Head,
    expected: Floats,
    path: Path,
) -> tuple[Graph | ModelProto, Mapping[str, Tensor], str]:
    """The graph of a model with the common interface, with its head if that is recognised; else the file itself."""
    try:
        nodes, state, output = lowered(model)
        _require_any_number(nodes, model.imgsz, output)
    except NoPrimitive as error:
        proto = model.proto()
        _require_same(outputs_of(proto, probe(model.imgsz)), expected, path)
        return proto, {}, str(error)
    shapes = _shapes(nodes, model.imgsz)
    nodes = marked(nodes, shapes)
    known = with_head(Structure(nodes, shapes), state, output, names, selected, model.imgsz)
    if known and _difference(_computed(*known, model.imgsz), expected) <= 1:
        return *known, ""
    head = OpenHead(names=names, strides=steps, output=output)
    size = (model.imgsz.height, model.imgsz.width)
    channels: Literal[1, 3] = 1 if model.channels == GREY else 3
    graph = Graph(channels=channels, nodes=nodes, head=head, selected=selected, size=size)
    _require_same(_computed(graph, state, model.imgsz), expected, path)
    return graph, state, ""


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


def _require_any_number(nodes: tuple[AnyNode, ...], imgsz: ImageShape, output: str) -> None:
    """Raise `NoPrimitive` if the nodes can only compute one image at a time: training needs several."""
    if _shapes(nodes, imgsz, _SEVERAL)[output][0] != _SEVERAL:
        raise NoPrimitive("its output, for one image alone")


def _computed(graph: Graph, state: Mapping[str, Tensor], imgsz: ImageShape) -> Floats:
    """What a graph gives for the probe; there is another image beside it, which must make no difference."""
    image = torch.from_numpy(probe(imgsz))
    with torch.inference_mode():
        found: Floats = build(graph, state)(torch.cat([image, 1 - image])).numpy()
    return found[:1]


def _require_same(found: Floats, expected: Floats, path: Path) -> None:
    if _difference(found, expected) > 1:
        raise ModelError(
            f"{shown(path)} cannot be used: read node by node it computes something else than ONNX Runtime does with it. "
            "Please report this, with the file if you can."
        )


def _difference(found: Floats, expected: Floats) -> float:
    """The largest difference, as a multiple of what is allowed."""
    if found.shape != expected.shape:
        return float("inf")
    apart = abs(found - expected) / np.maximum(1, abs(expected))
    return float(max(apart[:, :4].max() / _PIXELS, apart[:, 4:].max() / _SCORE))


def _understood(
    model: Model, found: Examined, classes: int, layout: Layout | None
) -> tuple[Form, Floats, bool]:
    """What the outputs mean, the common form of what the file gives, and whether that has no duplicates.

    A model that selects from its anchors is cut before it does. Raises `Unclear`.
    """
    node = selecting(model)
    if node is None:
        form = recognise(found.outputs, classes, found.imgsz, layout)
        single = form.unit == "fractions" or found.metadata.get("end2end") == "True"
        return form, common(found.outputs, form, found.imgsz), single
    rows = _rows(found.outputs)
    trusted = layout is not None or found.metadata.get("author") == "Ultralytics"
    for form, numbers in _readings(found, classes, layout):
        table = common(numbers, form, found.imgsz)
        if _selected_from(rows, table[0], found.imgsz) if len(rows) else trusted:
            return form, table, node.op_type == "TopK"
    raise Unclear(
        f"it ends in {node.op_type}, and the anchors before that cannot be told from its outputs"
    )


def _readings(
    found: Examined, classes: int, layout: Layout | None
) -> Iterator[tuple[Form, Mapping[str, Floats]]]:
    """How the values can be read in which the model could end: as recognised, then with corners for centres.

    Boxes of a network need not have their corners in order, so that only what is selected from them tells.
    """
    forms = []
    for numbers in found.cuts:
        with contextlib.suppress(Unclear):
            forms.append((recognise(numbers, classes, found.imgsz, layout), numbers))
    yield from forms
    for form, numbers in forms:
        if form.unit == "pixels" and layout is None:
            yield replace(form, corners=not form.corners), numbers


def _rows(outputs: Mapping[str, Floats]) -> Floats:
    """The rows [n, 6] that a file selects, those with a score; none if no output has rows."""
    for value in outputs.values():
        columns = value.shape[-1] if value.ndim > 1 else 0
        if columns in (6, 7) and value.size:
            rows = value.reshape(-1, columns)[:, -6:]
            rows = rows if columns == 6 else rows[:, [0, 1, 2, 3, 5, 4]]
            found: Floats = rows[rows[:, 4] > 0][:_ROWS_COMPARED]
            return found
    return np.zeros((0, 6), np.float32)


def _selected_from(rows: Floats, table: Floats, imgsz: ImageShape) -> bool:
    """Whether every row is an anchor of the table [4 + nc, A] with one of its scores.

    A row has corners in pixels; or, if its numbers are fractions of the image, corners or centre and size.
    """
    centre, half = table[:2], table[2:4] / 2
    corners = np.concatenate([centre - half, centre + half])
    boxes, rest = rows[:, :4], rows[:, 4:]
    readings = [boxes]
    if abs(boxes).max() <= _FRACTIONS:
        first, size = boxes[:, :2], boxes[:, 2:]
        centred = np.concatenate([first - size / 2, first + size / 2], axis=1)
        sides = np.array([imgsz.width, imgsz.height] * 2, np.float32)
        readings = [boxes * sides, centred * sides]
    return any(_all_among(each, rest, corners, table[4:]) for each in readings)


def _all_among(boxes: Floats, rest: Floats, corners: Floats, scores: Floats) -> bool:
    """Whether every box [n, 4], with its score and class [n, 2], is an anchor [4, A] with that score [nc, A]."""
    for box, (score, number) in zip(boxes, rest, strict=True):
        if not 0 <= round(float(number)) < len(scores):
            return False
        near = abs(corners - box[:, None]).max(0) < _ROW_PIXELS
        if not (near & (abs(scores[round(float(number))] - score) < _ROW_SCORE)).any():
            return False
    return True


def _names(metadata: Mapping[str, str], params: LoadOnnx, path: Path) -> tuple[str, ...]:
    """The classes that the metadata names, else those of the data set."""
    task = metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(
            f"{shown(path)} is a model for the task `{quotable(task)}`. This version ships detection models."
        )
    named = _parsed(metadata.get("names", ""))
    if named:
        return named
    if params.names:
        return params.names
    raise Nameless(f"{shown(path)} does not name its classes. Give it with a data set that does.")


def _parsed(text: str) -> tuple[str, ...]:
    """Names as Ultralytics writes them, a mapping from numbers, or as a list in JSON."""
    if not text or len(text) > _MOST_CLASSES * _MOST_LETTERS:
        return ()
    for reader in (ast.literal_eval, json.loads):
        try:
            value = reader(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            value = [value.get(i, value.get(str(i))) for i in range(len(value))]
        usable = isinstance(value, list) and 0 < len(value) <= _MOST_CLASSES
        if usable and all(
            isinstance(n, str) and n.isprintable() and 0 < len(n) <= _MOST_LETTERS for n in value
        ):
            return tuple(value)
    return ()
