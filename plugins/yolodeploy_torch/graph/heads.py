"""What is known of a model's head: all of it, or only its output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field

from yolodeploy.recipe import Head
from yolodeploy_torch.graph.nodes import Count, Row, Shape, Unsupported

Size = tuple[int, int]  # height and width
Finding = Literal["detect", "segment", "pose", "obb"]  # the tasks that find objects
KptShape = tuple[Count, Literal[2, 3]]  # keypoints, and the numbers of each
Shapes = Mapping[str, Shape]
_ADDED = {"segment": "mask coefficients", "pose": "keypoints", "obb": "angles"}
_MAP_AXES = 4
_COARSEST = (
    128  # the stride of the coarsest map of any family, so that a wrong stride shows at the head
)


class Branch(Row):
    """One set of outputs of a detection head, E numbers per anchor more than a plain detector's.

    `boxes`, `scores` and `extras` are the maps of its last convolutions, one per level: 4 * reg_max box logits, class
    logits, and what the task adds (mask coefficients, keypoints, angles). `corners` [N, 4, A] (x1, y1, x2, y2 in px; of
    rotated boxes centre, width and height), `probabilities` [N, nc, A] and `decoded` [N, E, A] are what they decode to,
    `output` [N, 4 + nc + E, A] all of them, boxes as centre and size. A plain detector has no extras.
    """

    boxes: tuple[str, ...]
    scores: tuple[str, ...]
    corners: str
    probabilities: str
    output: str
    extras: tuple[str, ...] = ()
    decoded: str | None = None

    @property
    def rows(self) -> tuple[str, ...]:
        """The values that rows are selected from: boxes as rows have them, scores, and the extras if there are any."""
        return (self.corners, self.probabilities, *_given(self.decoded))

    @property
    def values(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.boxes, *self.scores, *self.extras, *self.rows, self.output)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same branch where values bear other names."""
        single = {
            key: names.get(value, value)
            for key in ("corners", "probabilities", "output", "decoded")
            if (value := getattr(self, key)) is not None
        }
        maps = {key: _renamed(getattr(self, key), names) for key in ("boxes", "scores", "extras")}
        return self.model_copy(update={**single, **maps})


class Detection(Row):
    """A head that finds objects: classes, strides, the number of bins of a box side, and the maps that it reads.

    With one bin, a box side is a plain distance in cells. `task` says what a branch has beside boxes and scores:
    of "segment" the coefficients with which `prototypes` [N, coefficients, H', W'] add up to masks, of "pose" the
    keypoints of `kpt_shape` (count, and 2 or 3 numbers each) in px, of "obb" the angle of the box in radians.
    """

    names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[Count, ...] = Field(min_length=1, max_length=8)
    reg_max: Annotated[int, Field(ge=1, le=1 << 14)]
    features: tuple[str, ...]
    branches: dict[Head, Branch] = Field(min_length=1)
    task: Finding = "detect"
    prototypes: str | None = None
    kpt_shape: KptShape | None = None

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that the head gives, whose channels have a meaning."""
        values = tuple(value for branch in self.branches.values() for value in branch.values)
        return (*values, *_given(self.prototypes))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same head where values bear other names."""
        branches = {kind: branch.renamed(names) for kind, branch in self.branches.items()}
        changes = {"features": _renamed(self.features, names), "branches": branches}
        if self.prototypes is not None:
            changes["prototypes"] = names.get(self.prototypes, self.prototypes)
        return self.model_copy(update=changes)

    def check(self, selected: Head, found: Shapes, size: Size) -> None:
        """Raise `Unsupported` unless the shapes that a graph has for an image of this size are those of the head."""
        if selected not in self.branches:
            raise Unsupported(f"it has no {selected} head")
        height, width = size
        extra = self._extra(found)
        for values, what, channels in self._claims(extra):
            if len(values) != len(self.strides):
                raise Unsupported(f"its head needs one map of {what} per level")
            for value, stride in zip(values, self.strides, strict=True):
                shape, size = found.get(value, ()), (height // stride, width // stride)
                if shape[2:] != size or channels not in (None, shape[1]):
                    raise Unsupported(
                        f"its head reads {what} of shape {shape} as those of stride {stride}"
                    )
        anchors = sum(height * width // stride**2 for stride in self.strides)
        for branch in self.branches.values():
            _require_output(found.get(branch.output), self.names, anchors, extra)
            if found.get(branch.corners) != (1, 4, anchors):
                raise Unsupported(f"it has no corners of boxes named {branch.corners}")
            if found.get(branch.probabilities) != (1, len(self.names), anchors):
                raise Unsupported(f"it has no scores named {branch.probabilities}")
            if branch.decoded is not None and found.get(branch.decoded) != (1, extra, anchors):
                raise Unsupported(f"it has no {self._what} named {branch.decoded}")

    @property
    def _what(self) -> str:
        """What the branches have beside boxes and scores."""
        return _ADDED.get(self.task, "extras")

    def _extra(self, found: Shapes) -> int:
        """How many numbers per anchor the task adds; raises `Unsupported` where what they need is missing."""
        if any(
            (branch.decoded is None) != (self.task == "detect") for branch in self.branches.values()
        ):
            raise _lacking(self.task)
        return _extra(self.task, found, self.prototypes, self.kpt_shape)

    def _claims(self, extra: int) -> Iterator[tuple[tuple[str, ...], str, int | None]]:
        for branch in self.branches.values():
            yield branch.boxes, "boxes", 4 * self.reg_max
            yield branch.scores, "scores", len(self.names)
            if extra:
                yield branch.extras, self._what, extra
        yield self.features, "features", None


class Classification(Row):
    """A head that says what an image shows: its classes, and the one map that it reads, of this stride.

    `logits` [N, classes] are what its matrix gives, `output` [N, classes] the probabilities, which sum to 1.
    """

    names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[Count] = (32,)
    features: tuple[str]
    logits: str
    output: str

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that the head gives, whose channels have a meaning."""
        return self.logits, self.output

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same head where values bear other names."""
        changes: dict[str, object] = {
            key: names.get(value, value)
            for key, value in (("logits", self.logits), ("output", self.output))
        }
        return self.model_copy(update={**changes, "features": _renamed(self.features, names)})

    def check(self, _selected: Head, found: Shapes, _size: Size) -> None:
        """Raise `Unsupported` unless there is one number per class."""
        if len(found.get(self.features[0], ())) != _MAP_AXES:
            raise Unsupported(f"its head reads no map named {self.features[0]}")
        for value in self.ends:
            shape = found.get(value)
            if shape != (1, len(self.names)):
                raise Unsupported(
                    f"it gives {value} of shape {shape}, and with {len(self.names)} classes it should be "
                    f"{(1, len(self.names))}"
                )


class OpenHead(Row):
    """A head of which only the output is known, as of a model that another project trained.

    `output` [N, 4 + nc + E, A] has per anchor or query centre x, centre y, width and height in px, then a score in 0..1
    for each class of `names`, then what the task adds, as `Detection` says; that of "classify" is [N, nc]. `prototypes`
    [N, E, H', W'] are those of masks. The sides of an image are multiples of all `strides`, which may be one number.
    """

    names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[Count, ...] = Field(min_length=1, max_length=8)
    output: str
    task: Finding | Literal["classify"] = "detect"
    prototypes: str | None = None
    kpt_shape: KptShape | None = None

    @property
    def ends(self) -> tuple[str, ...]:
        """The outputs."""
        return (self.output, *_given(self.prototypes))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same head where values bear other names."""
        changes = {"output": names.get(self.output, self.output)}
        if self.prototypes is not None:
            changes["prototypes"] = names.get(self.prototypes, self.prototypes)
        return self.model_copy(update=changes)

    def check(self, _selected: Head, found: Shapes, _size: Size) -> None:
        """Raise `Unsupported` unless the output has a score for every class, and what the task adds."""
        shape = found.get(self.output, ())
        if self.task == "classify":
            if shape != (1, len(self.names)):
                raise Unsupported(
                    f"its output has the shape {shape}, and with {len(self.names)} classes it should be "
                    f"{(1, len(self.names))}"
                )
            return
        extra = _extra(self.task, found, self.prototypes, self.kpt_shape)
        _require_output(shape, self.names, shape[2] if len(shape) == 3 else None, extra)


def reference_size(strides: tuple[int, ...]) -> Size:
    """Height and width of an image for which a model with these strides is checked."""
    step = math.lcm(_COARSEST, *strides)
    return 2 * step, 3 * step


def _require_output(
    shape: Shape | None, names: tuple[str, ...], anchors: int | None, extra: int = 0
) -> None:
    expected = (1, 4 + len(names) + extra, anchors if anchors is not None else "A")
    if shape != expected:
        raise Unsupported(
            f"its output has the shape {shape}, and with {len(names)} "
            f"classes it should be {expected}"
        )


def _extra(
    task: str, found: Shapes, prototypes: str | None, kpt_shape: tuple[int, int] | None
) -> int:
    """How many numbers per anchor a task adds; raises `Unsupported` where what they need is missing."""
    needs = {"segment": prototypes, "pose": kpt_shape}
    if any((needs[each] is None) == (each == task) for each in needs):
        raise _lacking(task)
    if prototypes is not None:
        shape = found.get(prototypes, ())
        if len(shape) != _MAP_AXES:
            raise Unsupported(f"it has no prototypes of masks named {prototypes}")
        return shape[1]
    if kpt_shape is not None:
        return math.prod(kpt_shape)
    return int(task == "obb")


def _lacking(task: str) -> Unsupported:
    what = _ADDED.get(task, "extras")
    return Unsupported(f"its head for `{task}` has no {what}, or those of another")


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _renamed(values: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(value, value) for value in values)
