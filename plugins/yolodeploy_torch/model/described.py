"""The outputs of a model as loaded, in words."""

from __future__ import annotations

import math

from yolodeploy.backend import ModelInfo, Tensor

_BOXES = "per anchor: centre x, centre y, width, height in input pixels, then one score per class"
_COEFFICIENTS = 32  # of every family
_FREE = -1


def described(info: ModelInfo) -> tuple[Tensor, ...]:
    """The tensors that it gives, of any image size; `output1` of a segmentation model are the prototypes."""
    classes, extra, behind = len(info.names), 0, ""
    if info.task == "classify":
        return (Tensor("output0", (_FREE, classes), "float32", "one probability per class, sum 1"),)
    if info.task == "segment":
        extra, behind = _COEFFICIENTS, ", then the mask coefficients"
    elif info.kpt_shape:
        visible = ", visibility in 0..1" if info.kpt_shape[1] == 3 else ""
        extra = math.prod(info.kpt_shape)
        behind = f", then per keypoint x, y in input pixels{visible}"
    elif info.task == "obb":
        extra, behind = 1, ", then the angle in radians"
    output = Tensor("output0", (_FREE, 4 + classes + extra, _FREE), "float32", _BOXES + behind)
    if info.task != "segment":
        return (output,)
    shape = (_FREE, _COEFFICIENTS, _FREE, _FREE)
    masks = Tensor(
        "output1", shape, "float32", "prototypes: weighted by the coefficients, mask logits"
    )
    return output, masks
