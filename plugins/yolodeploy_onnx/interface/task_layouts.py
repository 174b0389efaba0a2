"""The layouts of the tasks beside detection, as Ultralytics has them: what stands behind the scores of an anchor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from yolodeploy.recipe import Layout
from yolodeploy.system import ImageShape, quotable
from yolodeploy_onnx.interface.form import Form
from yolodeploy_onnx.interface.purpose import COEFFICIENTS, Purpose, Unclear

Floats = NDArray[np.float32]
_OF: Mapping[str, Layout] = {
    "segment": "ultralytics-segment",
    "pose": "ultralytics-pose",
    "obb": "ultralytics-obb",
}
_STRIDE = 4  # of the prototypes
_CLOSE = 1e-3  # how far a sum of probabilities may be from 1
_FLAT, _MAP = 3, 4  # axes
_BOX = 4


def of_classes(found: Mapping[str, Floats], wanted: Purpose) -> Form:
    """The form of a classifier's output [1, nc]: probabilities, or logits."""
    shape = (1, len(wanted.names))
    for name, value in found.items():
        if value.shape == shape:
            shares = bool((value >= 0).all() and abs(value.sum() - 1) <= _CLOSE)
            return Form((name,), "classify", (False,), logits=not shares, task="classify")
    raise Unclear(
        f"a classifier of {len(wanted.names)} classes gives one output {list(shape)}, and it gives {shown_shapes(found)}"
    )


def of_anchors(found: Mapping[str, Floats], wanted: Purpose, imgsz: ImageShape) -> Form:
    """The form of an output [1, 4 + nc + extras, A] or [1, A, 4 + nc + extras], and of the prototypes beside it."""
    prototypes = _prototypes(found, imgsz) if wanted.task == "segment" else None
    count = wanted.columns
    for name, value in found.items():
        if value.ndim == _FLAT and len(value) == 1 and count in value.shape[1:]:
            _, first, second = value.shape
            if first == second:
                raise Unclear(f"its output [1, {first}, {second}] could be read in two ways")
            form = Form(
                (name,),
                _OF[wanted.task],
                (second == count,),
                task=wanted.task,
                extras=wanted.extras,
                prototypes=prototypes,
            )
            scores = _scores(value[0].T if form.last[0] else value[0], wanted)
            if scores.min() < 0 or scores.max() > 1:
                raise Unclear(
                    f"its scores reach from {scores.min():.3g} to {scores.max():.3g}, where 0..1 is needed"
                )
            return form
    raise Unclear(_misfit(found, wanted))


def _scores(table: Floats, wanted: Purpose) -> Floats:
    scores: Floats = table[_BOX : _BOX + len(wanted.names)]
    return scores


def _misfit(found: Mapping[str, Floats], wanted: Purpose) -> str:
    """Why no output has as many numbers per anchor as the task needs."""
    what = {
        "segment": f"{COEFFICIENTS} mask coefficients, one per prototype",
        "obb": "an angle",
    }.get(wanted.task, "")
    if wanted.kpt_shape:
        what = f"the {wanted.extras} numbers of its `kpt_shape` {list(wanted.kpt_shape)}"
    return (
        f"with {len(wanted.names)} classes a model for `{wanted.task}` gives [1, {wanted.columns}, A]: a box, the scores, and "
        f"{what}; its outputs are {shown_shapes(found)}"
    )


def _prototypes(found: Mapping[str, Floats], imgsz: ImageShape) -> str:
    """The output with the prototypes of masks."""
    size = (imgsz.height // _STRIDE, imgsz.width // _STRIDE)
    maps = {name: value.shape for name, value in found.items() if value.ndim == _MAP}
    for name, shape in maps.items():
        if shape == (1, COEFFICIENTS, *size):
            return name
    needed = f"[1, {COEFFICIENTS}, {size[0]}, {size[1]}]"
    raise Unclear(
        f"a model for `segment` gives prototypes of masks {needed}, a quarter of the image's size and as many as there "
        f"are coefficients, and its outputs are {shown_shapes(found)}"
    )


def shown_shapes(found: Mapping[str, Floats]) -> str:
    """Outputs and their shapes, in a message."""
    return ", ".join(f"{quotable(name)} {list(value.shape)}" for name, value in found.items())[:200]
