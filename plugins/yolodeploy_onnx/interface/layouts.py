"""What the numbers of an output mean, and the nodes that bring every layout into the one that yolodeploy uses.

That one is [1, 4 + nc + extras, A]: per anchor centre x, centre y, width and height in pixels of the input, then a score in 0..1
per class, then what the task adds; of a classifier [1, nc]. A layout is recognised from shapes, and from what the file
gives for a random image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yolodeploy.recipe import Layout
from yolodeploy.system import ImageShape
from yolodeploy_onnx.interface.form import Form
from yolodeploy_onnx.interface.model import Model
from yolodeploy_onnx.interface.purpose import Purpose, Unclear
from yolodeploy_onnx.interface.task_layouts import of_anchors, of_classes, shown_shapes

Floats = NDArray[np.float32]
_STRIDES = (4, 8, 16, 32, 64, 128)
_LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16), (16, 32, 64))
_ANCHORS = 3  # boxes per cell of the YOLOs with anchors of several shapes
_WITHIN = 2.0  # a box in fractions of the image reaches no further, and one in pixels does
_BOX = 4


def recognise(
    found: Mapping[str, Floats], wanted: Purpose, imgsz: ImageShape, stated: Layout | None
) -> Form:
    """The form of these outputs; `stated` is the layout that the recipe says.

    Raises `Unclear` with what was found.
    """
    if wanted.task == "classify":
        return of_classes(found, wanted)
    if wanted.task == "detect":
        return _of_detector(found, len(wanted.names), imgsz, stated)
    return of_anchors(found, wanted, imgsz)


def _of_detector(
    found: Mapping[str, Floats], classes: int, imgsz: ImageShape, stated: Layout | None
) -> Form:
    values = _detecting(found, classes)
    last = _last([found[value] for value in values], classes)
    table = _joined([found[value] for value in values], last)[0]
    form = Form(values, "ultralytics", last, objectness=len(table) == _BOX + 1 + classes)
    boxes, scores = table[:_BOX], table[_BOX:]
    form = replace(form, logits=bool((scores < 0).any() or (scores > 1).any()))
    form = _with_boxes(form, boxes, imgsz)
    form = replace(form, layout=_layout(form))
    if stated and stated != form.layout:
        form = _as_stated(form, stated)
    return form


def _detecting(found: Mapping[str, Floats], classes: int) -> tuple[str, ...]:
    """The outputs that hold boxes and scores: one of [1, A, 4 + nc] or the like, else two of [1, A, 4] and [1, A, nc]."""
    flat = {name: value for name, value in found.items() if value.ndim == 3 and len(value) == 1}
    whole = (_BOX + classes, _BOX + 1 + classes)
    if single := [
        name for name, value in flat.items() if not set(whole).isdisjoint(value.shape[1:])
    ]:
        return (single[0],)
    for first, second in combinations(flat, 2):
        for boxes, scores in ((first, second), (second, first)):
            pair = flat[boxes].shape[1:], flat[scores].shape[1:]
            if _anchors(pair[0], _BOX) & _anchors(pair[1], classes):
                return boxes, scores
    raise Unclear(
        f"no layout with {classes} classes has such outputs ({shown_shapes(found)}): [1, {_BOX + classes}, A] or "
        f"[1, A, {_BOX + classes}], with objectness {_BOX + 1 + classes} in place of {_BOX + classes}, or [1, A, 4] and "
        f"[1, A, {classes}]. Of poses and rotated boxes the layout must be said, `ultralytics-pose` or `ultralytics-obb`"
    )


def _anchors(sides: Sequence[int], channels: int) -> set[int]:
    """How many anchors an array of these two sides can have, if the other is that of its channels."""
    first, second = sides
    return {*([second] if first == channels else ()), *([first] if second == channels else ())}


def _last(values: Sequence[Floats], classes: int) -> tuple[bool, ...]:
    """Whether the channels of each are the last axis."""
    wanted = (_BOX, classes) if len(values) > 1 else None
    found = []
    for place, value in enumerate(values):
        _, first, second = value.shape
        counts = {wanted[place]} if wanted else {_BOX + classes, _BOX + 1 + classes}
        if first in counts and second in counts:
            raise Unclear(f"its output [1, {first}, {second}] could be read in two ways")
        found.append(second in counts)
    return tuple(found)


def _table(found: Mapping[str, Floats], form: Form) -> Floats:
    """Boxes, scores and extras [channels, A]."""
    table: Floats = _joined([found[value] for value in form.values], form.last)[0]
    return table


def _joined(values: Sequence[Floats], last: Sequence[bool]) -> Floats:
    """Boxes and scores in one array [1, channels, A]."""
    pairs = zip(values, last, strict=True)
    return np.concatenate([value.transpose(0, 2, 1) if turn else value for value, turn in pairs], 1)


def _with_boxes(form: Form, boxes: Floats, imgsz: ImageShape) -> Form:
    """Find out the unit of boxes [4, A], and whether they are corners."""
    longest = max(imgsz.height, imgsz.width)
    anchors = boxes.shape[1]
    if abs(boxes).max() <= _WITHIN:
        cells = form.objectness and levels(anchors, imgsz) is not None
        form = replace(form, unit="cells" if cells else "fractions")
    elif form.objectness and levels(anchors, imgsz) and boxes[:2].max() < longest / 4:
        form = replace(form, unit="cells")
    if form.unit == "cells":
        return form
    size = 1 if form.unit == "fractions" else longest
    ordered = (boxes[2:] >= boxes[:2] - 1e-3 * size).all()
    return replace(form, corners=bool(ordered))


def _layout(form: Form) -> Layout:
    match form:
        case Form(unit="cells"):
            return "yolox"
        case Form(unit="fractions"):
            return "detr"
        case Form(objectness=True):
            return "yolov5"
        case Form(corners=True):
            return "corners"
    return "ultralytics"


def _as_stated(form: Form, stated: Layout) -> Form:
    """The form of a layout that the recipe states, where the numbers spoke for another."""
    needs_objectness = stated in ("yolov5", "yolox")
    if stated != "detr" and form.objectness != needs_objectness:
        has = "has" if form.objectness else "lacks"
        raise Unclear(
            f"the layout `{stated}` does not fit: its output {has} a score for objectness"
        )
    unit: Literal["pixels", "fractions", "cells"] = "pixels"
    if stated == "yolox":
        unit = "cells"
    elif stated == "detr":
        unit = "fractions"
    return replace(form, layout=stated, unit=unit, corners=stated == "corners")


def levels(anchors: int, imgsz: ImageShape) -> tuple[int, ...] | None:
    """The strides of the maps whose cells are so many anchors, one per cell; None if no usual ones are."""
    for strides in _LEVELS:
        if cells(strides, imgsz) == anchors:
            return strides
    return None


def strides(anchors: int, imgsz: ImageShape) -> tuple[int, ...]:
    """The strides of a detector with so many anchors; those of no grid have one, the usual multiple of its sides."""
    return levels(anchors, imgsz) or levels(anchors // _ANCHORS, imgsz) or (32,)


def cells(strides: Sequence[int], imgsz: ImageShape) -> int:
    """The cells of all maps of an image."""
    return sum((imgsz.height // stride) * (imgsz.width // stride) for stride in strides)


def _grid(anchors: int, imgsz: ImageShape) -> tuple[Floats, Floats]:
    """Left and top of every cell [1, 2, A], in cells, and its size [1, 1, A], in pixels."""
    found = levels(anchors, imgsz)
    if found is None:
        raise Unclear(f"{anchors} anchors are the cells of no usual maps of {imgsz} pixels")
    points, steps = [], []
    for stride in found:
        rows, columns = np.indices((imgsz.height // stride, imgsz.width // stride))
        points.append(np.stack([columns.ravel(), rows.ravel()]))
        steps.append(np.full((1, rows.size), stride))
    return (
        np.concatenate(points, 1)[None].astype(np.float32),
        np.concatenate(steps, 1)[None].astype(np.float32),
    )


def common(found: Mapping[str, Floats], form: Form, imgsz: ImageShape) -> Floats:
    """Bring outputs into the common layout [1, 4 + nc + extras, A], of a classifier [1, nc]; prototypes are left out."""
    if form.task == "classify":
        return _shares(found[form.values[0]]) if form.logits else found[form.values[0]]
    table = _table(found, form)[None].astype(np.float64)
    end = table.shape[1] - form.extras
    boxes, scores = table[:, :_BOX], table[:, _BOX:end]
    if form.logits:
        scores = 1 / (1 + np.exp(-scores))
    if form.objectness:
        scores = scores[:, 1:] * scores[:, :1]
    first, second = boxes[:, :2], boxes[:, 2:]
    if form.unit == "cells":
        points, steps = _grid(boxes.shape[2], imgsz)
        first, second = (first + points) * steps, np.exp(second) * steps
    elif form.corners:
        first, second = (first + second) / 2, second - first
    if form.unit == "fractions":
        sides = np.array([imgsz.width, imgsz.height]).reshape(1, 2, 1)
        first, second = first * sides, second * sides
    return np.concatenate([first, second, scores, table[:, end:]], 1).astype(np.float32)


def _shares(logits: Floats) -> Floats:
    """Softmax of [1, nc]."""
    powers = np.exp(logits - logits.max(), dtype=np.float64)
    found: Floats = (powers / powers.sum()).astype(np.float32)
    return found


def end_in_common(model: Model, form: Form) -> None:
    """Put nodes behind the outputs so that the model gives the common layout, and prototypes of masks if it has any."""
    values = [
        model.put("Transpose", [value], perm=[0, 2, 1])[0] if turn else value
        for value, turn in zip(form.values, form.last, strict=True)
    ]
    (value,) = values if len(values) == 1 else model.put("Concat", values, axis=1)
    if form.task == "classify" and form.logits:
        (value,) = model.put("Softmax", [value], axis=1)
    elif not form.common:
        value = _converted(model, value, form)
    model.outputs = [value, *([form.prototypes] if form.prototypes else [])]
    model.drop_unneeded()


def _converted(model: Model, value: str, form: Form) -> str:
    channels, anchors = _size(model, form)
    classes = channels - _BOX - form.objectness - form.extras
    sizes = [2, 2, *([1] if form.objectness else []), classes, *filter(None, [form.extras])]
    first, second, *scores = model.split(value, sizes)
    extras = [scores.pop()] if form.extras else []
    if form.logits:
        scores = [model.put("Sigmoid", [each])[0] for each in scores]
    if form.objectness:
        scores = model.put("Mul", scores[::-1])
    if form.unit == "cells":
        points, steps = (model.new_constant(each) for each in _grid(anchors, model.imgsz))
        (first,) = model.put("Mul", [model.put("Add", [first, points])[0], steps])
        (second,) = model.put("Mul", [model.put("Exp", [second])[0], steps])
    elif form.corners:
        half = model.new_constant(np.float32(0.5).reshape(1, 1, 1))
        (total,) = model.put("Add", [first, second])
        (second,) = model.put("Sub", [second, first])
        (first,) = model.put("Mul", [total, half])
    if form.unit == "fractions":
        sides = np.array([model.imgsz.width, model.imgsz.height], np.float32).reshape(1, 2, 1)
        factor = model.new_constant(sides)
        first, second = (model.put("Mul", [each, factor])[0] for each in (first, second))
    return model.put("Concat", [first, second, *scores, *extras], axis=1)[0]


def _size(model: Model, form: Form) -> tuple[int, int]:
    """Channels and anchors of the joined outputs."""
    pairs = zip(form.values, form.last, strict=True)
    shapes = [
        model.shape(value)[:0:-1] if turn else model.shape(value)[1:] for value, turn in pairs
    ]
    return sum(channels for channels, _ in shapes), shapes[0][1]
