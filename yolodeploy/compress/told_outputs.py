"""What the outputs of an exported model are, told from the parts of its layers and from shapes: its files say no more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from yolodeploy.backend import Layout, Tensor
from yolodeploy.compress.layers import Part

_OF_AN_IMAGE = 2  # axes of an output that is about the whole image: batch and classes
_TELLING: Mapping[Part, str] = {
    "head.proto": "segment",
    "head.keypoints": "pose",
    "head.angle": "obb",
}
_ANCHORS = "per anchor: centre x, centre y, width, height in input pixels, then one score per class"
_ROWS = (
    "per row: left, top, right, bottom in input pixels, score, class index; best first, without "
    "duplicates"
)
_TURNED_ROWS = (
    "per row: centre x, centre y, width, height in input pixels, score, class index; best first, without "
    "duplicates"
)
_PLACES = "x, y in input pixels and, if the model has that, visibility in 0..1"
_EXTRAS: Mapping[str, str] = {
    "segment": "one mask coefficient per prototype",
    "pose": f"per keypoint {_PLACES}",
    "obb": "the angle in radians, clockwise as seen",
}
_PROBABILITIES = "one probability per class, after softmax"
_PROTOTYPES = "prototypes: their sum, weighted by the mask coefficients of an object, is above 0 inside its mask"


def told_task(parts: Collection[Part], axes: int) -> str:
    """The task of a model with layers of these parts, whose main output has so many axes."""
    if axes == _OF_AN_IMAGE:
        return "classify"
    return next((task for part, task in _TELLING.items() if part in parts), "detect")


def told_outputs(
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    parts: Collection[Part],
    layout: Layout,
) -> tuple[Tensor, ...]:
    """The outputs of a model as an app sees them; the second of a segmentation model are its prototypes."""
    task = told_task(parts, len(shapes[0]))
    meanings, count = (_meaning(task, layout), _PROTOTYPES), len(shapes)
    return tuple(
        Tensor(name, shape, "float32", meaning)
        for name, shape, meaning in zip(names[:count], shapes, meanings[:count], strict=True)
    )


def _meaning(task: str, layout: Layout) -> str:
    if task == "classify":
        return _PROBABILITIES
    plain = _ANCHORS
    if layout == "rows":
        plain = _TURNED_ROWS if task == "obb" else _ROWS
    if task not in _EXTRAS:
        return plain
    found, semicolon, rest = plain.partition(";")
    return f"{found}, then {_EXTRAS[task]}{semicolon}{rest}"
