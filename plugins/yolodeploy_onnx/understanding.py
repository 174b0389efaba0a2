"""What the outputs of a file mean, and of one that selects from its anchors, where it is to be cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yolodeploy.recipe import Layout
from yolodeploy.system import ImageShape
from yolodeploy_onnx.examination import Examined
from yolodeploy_onnx.interface import (
    Form,
    Model,
    Purpose,
    Unclear,
    common,
    recognise,
    selecting,
)

_ROWS_COMPARED = 50
_ROW_PIXELS, _ROW_SCORE = 0.5, 1e-3
_FRACTIONS = 2.0  # a box in fractions of the image reaches no further
_MAP = 4  # axes
Floats = NDArray[np.float32]


def understood(
    model: Model, found: Examined, wanted: Purpose, layout: Layout | None
) -> tuple[Form, Floats, bool]:
    """What the outputs mean, the common form of what the file gives, and whether that has no duplicates.

    A model that selects from its anchors is cut before it does. Raises `Unclear`.
    """
    node = selecting(model)
    if node is None:
        form = recognise(found.outputs, wanted, found.imgsz, layout)
        single = form.unit == "fractions" or found.metadata.get("end2end") == "True"
        return form, common(found.outputs, form, found.imgsz), single
    rows = _rows(found.outputs, wanted)
    trusted = layout is not None or found.metadata.get("author") == "Ultralytics"
    for form, numbers in _readings(found, wanted, layout):
        table = common(numbers, form, found.imgsz)
        if _selected_from(rows, table[0], form, found.imgsz) if len(rows) else trusted:
            return form, table, node.op_type == "TopK" and not _suppressed(found)
    raise Unclear(
        f"it ends in {node.op_type}, and the anchors before that cannot be told from its outputs"
    )


def _suppressed(found: Examined) -> bool:
    """Whether the metadata says that a top-k is one of a suppression of duplicates, as of rotated boxes."""
    return found.metadata.get("end2end") == "False"


def _readings(
    found: Examined, wanted: Purpose, layout: Layout | None
) -> Iterator[tuple[Form, Mapping[str, Floats]]]:
    """How the values can be read in which the model could end: as recognised, then with corners for centres.

    Boxes of a network need not have their corners in order, so that only what is selected from them tells.
    """
    forms = []
    maps = {name: value for name, value in found.outputs.items() if value.ndim == _MAP}
    for cut in found.cuts:
        numbers = {**cut, **maps}
        with contextlib.suppress(Unclear):
            forms.append((recognise(numbers, wanted, found.imgsz, layout), numbers))
    yield from forms
    for form, numbers in forms:
        if form.unit == "pixels" and form.task != "obb" and (layout is None or form.extras):
            yield replace(form, corners=not form.corners), numbers


def _rows(outputs: Mapping[str, Floats], wanted: Purpose) -> Floats:
    """The rows [n, 6 + extras] that a file selects, those with a score; none if no output has rows."""
    plain = 6 + wanted.extras
    for value in outputs.values():
        columns = value.shape[-1] if 1 < value.ndim < _MAP else 0
        if columns in (plain, plain + (wanted.task == "detect")) and value.size:
            rows = value.reshape(-1, columns)[:, -plain:]
            rows = rows if columns == plain else rows[:, [0, 1, 2, 3, 5, 4]]
            found: Floats = rows[rows[:, 4] > 0][:_ROWS_COMPARED]
            return found
    return np.zeros((0, plain), np.float32)


def _selected_from(rows: Floats, table: Floats, form: Form, imgsz: ImageShape) -> bool:
    """Whether every row is an anchor of the table [4 + nc + extras, A] with one of its scores.

    A row has corners in pixels; or, if its numbers are fractions of the image, corners or centre and size. Rotated boxes
    have centre and size.
    """
    centre, half = table[:2], table[2:4] / 2
    scores = table[4 : len(table) - form.extras]
    corners = np.concatenate([centre - half, centre + half])
    boxes, rest = rows[:, :4], rows[:, 4:6]
    if form.task == "obb":
        return _all_among(boxes, rest, table[:4], scores)
    readings = [boxes]
    if abs(boxes).max() <= _FRACTIONS:
        first, size = boxes[:, :2], boxes[:, 2:]
        centred = np.concatenate([first - size / 2, first + size / 2], axis=1)
        sides = np.array([imgsz.width, imgsz.height] * 2, np.float32)
        readings = [boxes * sides, centred * sides]
    return any(_all_among(each, rest, corners, scores) for each in readings)


def _all_among(boxes: Floats, rest: Floats, corners: Floats, scores: Floats) -> bool:
    """Whether every box [n, 4], with its score and class [n, 2], is an anchor [4, A] with that score [nc, A]."""
    for box, (score, number) in zip(boxes, rest, strict=True):
        if not 0 <= round(float(number)) < len(scores):
            return False
        near = abs(corners - box[:, None]).max(0) < _ROW_PIXELS
        if not (near & (abs(scores[round(float(number))] - score) < _ROW_SCORE)).any():
            return False
    return True
