"""What a recipe says of a model that its file does not: how it wants its images, and what its output means."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from yolodeploy.recipe.part import Part
from yolodeploy.system import FILL, Fit

Head = Literal["one-to-one", "one-to-many"]  # the branch of a detector that gives its output
Layout = Literal[
    "ultralytics",
    "yolov5",
    "yolox",
    "detr",
    "corners",
    "ultralytics-segment",
    "ultralytics-pose",
    "ultralytics-obb",
    "classify",
]
_MOST_KEYPOINTS = 1024
_WHITE = 255
_Values = tuple[float, ...]


def _reciprocal(value: object) -> object:
    """Read `1/255`, which has no short decimal."""
    if isinstance(value, str):
        first, _, second = value.partition("/")
        if first.strip().isdigit() and second.strip().isdigit() and int(second):
            return int(first) / int(second)
    return value


class Preprocess(Part):
    """What a model expects to be done to images.

    Pixels of 0..255 are multiplied by `scale`; then, per channel, `mean` is subtracted and `std` divided by.
    """

    scale: Annotated[float, BeforeValidator(_reciprocal), Field(gt=0, le=1)] = 1 / _WHITE
    """What pixels of 0..255 are multiplied by: 1/255, or 1 for a model that takes 0..255."""
    mean: Annotated[_Values, Field(min_length=1, max_length=3, strict=False)] | None = None
    """Subtracted from each channel after scaling."""
    std: (
        Annotated[
            tuple[Annotated[float, Field(gt=0)], ...],
            Field(min_length=1, max_length=3, strict=False),
        ]
        | None
    ) = None
    """What each channel is then divided by."""
    order: Literal["rgb", "bgr"] = "rgb"
    """The order of the colour channels."""
    fit: Fit = "center"
    """How an image gets the model's size: center (letterbox with borders on both sides), top-left (borders right and below), stretch (no borders, the shape changes), or crop (the middle of the image, for classification)."""
    fill: Annotated[int, Field(ge=0, le=_WHITE)] = FILL
    """Grey of the borders."""

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise ValueError(
                "`mean` and `std` must have as many numbers: one per channel, or one for all"
            )
        return self


class StatedHead(Part):
    """What the output of an ONNX file means, where that cannot be recognised."""

    layout: Layout | None = None
    """What the numbers are: ultralytics [1, 4+nc, A]; yolov5 [1, A, 5+nc], with objectness; yolox, the same before decoding; detr, boxes in fractions of the image; corners, boxes as x1, y1, x2, y2; ultralytics-segment, -pose and -obb, with mask coefficients, keypoints or an angle behind the scores; classify [1, nc]."""
    kpt_shape: (
        Annotated[
            tuple[Annotated[int, Field(ge=1, le=_MOST_KEYPOINTS)], Literal[2, 3]],
            Field(strict=False),
        ]
        | None
    ) = None
    """How many keypoints a pose has, and how many numbers each: 2 (x, y) or 3 (with visibility). With `layout: ultralytics-pose` alone."""
    kind: Head | None = None
    """one-to-one if the output has no duplicates, so that it needs no non-maximum suppression; else one-to-many."""

    @model_validator(mode="after")
    def _keypoints_of_poses(self) -> Self:
        if self.kpt_shape and self.layout != "ultralytics-pose":
            raise ValueError(
                "`kpt_shape` says what the keypoints of a pose are. Write it with layout: ultralytics-pose, or remove it"
            )
        return self

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> Any:
        """As recipes write it: the kind alone if nothing else is said."""
        found = dump(self)
        if self.kpt_shape is None:
            del found["kpt_shape"]
        return found if self.layout else self.kind
