"""The keypoints of a pose data set: `kpt_shape` and `flip_idx` in its data.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from yolodeploy.errors import DataError
from yolodeploy.recipe import Document
from yolodeploy.system import quotable

_MOST = 1000  # keypoints of an object


@dataclass(frozen=True)
class KeypointShape:
    """How many keypoints every object has, and how many numbers each: 2 (x, y) or 3 (x, y, visibility).

    `flip` is the keypoint that each becomes in a mirrored image, such as the right eye for the left one; empty if the
    data set does not say.
    """

    count: int
    numbers: int
    flip: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """How many keypoints, and the numbers of each."""
        return self.count, self.numbers

    @property
    def columns(self) -> int:
        """How many numbers a row of a label file has: the class, a box and the keypoints."""
        return 5 + self.count * self.numbers

    def __str__(self) -> str:
        return f"kpt_shape: [{self.count}, {self.numbers}]"


def read_keypoints(document: Document) -> KeypointShape:
    """The keypoints of a pose data set; DataError if `kpt_shape` is missing or odd, or `flip_idx` is no permutation."""
    shape, at = stated_keypoints(document), document.where(("kpt_shape",))
    if shape is None:
        raw = document.value if isinstance(document.value, dict) else {}
        wrong = (
            f"`kpt_shape: {quotable(raw['kpt_shape'])}` must be"
            if "kpt_shape" in raw
            else "a pose data set must have `kpt_shape`:"
        )
        raise DataError(
            f"{at}: {wrong} the number of keypoints and the numbers of each, 2 (x, y) or 3 (x, y, visibility), as in "
            "`kpt_shape: [17, 3]`. If this is no pose data set, use the one that the model was trained with."
        )
    flip = document.value.get("flip_idx")
    if flip is None or flip == []:
        return shape
    whole = isinstance(flip, list) and all(type(number) is int for number in flip)
    if not whole or sorted(flip) != list(range(shape.count)):
        raise DataError(
            f"{document.where(('flip_idx',))}: `flip_idx: {quotable(flip)}` must name each keypoint once, 0 to "
            f"{shape.count - 1}: for each keypoint the one that it becomes in a mirrored image. Correct it, or leave it out."
        )
    return KeypointShape(shape.count, shape.numbers, tuple(flip))


def stated_keypoints(document: Document) -> KeypointShape | None:
    """The `kpt_shape` of a data.yaml of any task, without `flip_idx`; None if it has none that can be used."""
    raw = document.value.get("kpt_shape") if isinstance(document.value, dict) else None
    if not isinstance(raw, list) or len(raw) != 2 or any(type(number) is not int for number in raw):
        return None
    count, numbers = raw
    return KeypointShape(count, numbers) if 0 < count <= _MOST and numbers in (2, 3) else None
