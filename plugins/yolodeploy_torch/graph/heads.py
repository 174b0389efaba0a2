"""What is known of a model's head: all of it, or only its output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field

from yolodeploy.recipe import Head
from yolodeploy_torch.graph.nodes import Count, Row, Shape, Unsupported

Size = tuple[int, int]  # height and width
Shapes = Mapping[str, Shape]
_COARSEST = (
    128  # the stride of the coarsest map of any family, so that a wrong stride shows at the head
)


class Branch(Row):
    """One set of outputs of a detection head.

    `boxes` and `scores` are the maps of its last convolutions, one per level: 4 * reg_max box logits, and class
    logits. `corners` [N, 4, A] (x1, y1, x2, y2 in px) and `probabilities` [N, nc, A] are what they decode to,
    `output` [N, 4 + nc, A] the two as centre, size and scores.
    """

    boxes: tuple[str, ...]
    scores: tuple[str, ...]
    corners: str
    probabilities: str
    output: str

    @property
    def values(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.boxes, *self.scores, self.corners, self.probabilities, self.output)


class Detection(Row):
    """A detection head: classes, strides, the number of bins of a box side, and the maps that it reads.

    With one bin, a box side is a plain distance in cells.
    """

    names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[Count, ...] = Field(min_length=1, max_length=8)
    reg_max: Annotated[int, Field(ge=1, le=1 << 14)]
    features: tuple[str, ...]
    branches: dict[Head, Branch] = Field(min_length=1)

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that the head gives, whose channels have a meaning."""
        return tuple(value for branch in self.branches.values() for value in branch.values)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same head where values bear other names."""
        branches = {
            kind: Branch(
                boxes=_renamed(branch.boxes, names),
                scores=_renamed(branch.scores, names),
                corners=names.get(branch.corners, branch.corners),
                probabilities=names.get(branch.probabilities, branch.probabilities),
                output=names.get(branch.output, branch.output),
            )
            for kind, branch in self.branches.items()
        }
        features = _renamed(self.features, names)
        return self.model_copy(update={"features": features, "branches": branches})

    def check(self, selected: Head, found: Shapes, size: Size) -> None:
        """Raise `Unsupported` unless the shapes that a graph has for an image of this size are those of the head."""
        if selected not in self.branches:
            raise Unsupported(f"it has no {selected} head")
        height, width = size
        for values, what, channels in self._claims():
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
            _require_output(found.get(branch.output), self.names, anchors)
            if found.get(branch.corners) != (1, 4, anchors):
                raise Unsupported(f"it has no corners of boxes named {branch.corners}")
            if found.get(branch.probabilities) != (1, len(self.names), anchors):
                raise Unsupported(f"it has no scores named {branch.probabilities}")

    def _claims(self) -> Iterator[tuple[tuple[str, ...], str, int | None]]:
        for branch in self.branches.values():
            yield branch.boxes, "boxes", 4 * self.reg_max
            yield branch.scores, "scores", len(self.names)
        yield self.features, "features", None


class OpenHead(Row):
    """A head of which only the output is known, as of a model that another project trained.

    `output` [N, 4 + nc, A] has per anchor or query centre x, centre y, width and height in px, then a score in 0..1
    for each class of `names`. The sides of an image are multiples of all `strides`, which may be one number.
    """

    names: tuple[str, ...] = Field(min_length=1)
    strides: tuple[Count, ...] = Field(min_length=1, max_length=8)
    output: str

    @property
    def ends(self) -> tuple[str, ...]:
        """The output."""
        return (self.output,)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same head where values bear other names."""
        return self.model_copy(update={"output": names.get(self.output, self.output)})

    def check(self, _selected: Head, found: Shapes, _size: Size) -> None:
        """Raise `Unsupported` unless the output has a score for every class."""
        shape = found.get(self.output, ())
        _require_output(shape, self.names, shape[2] if len(shape) == 3 else None)


def reference_size(strides: tuple[int, ...]) -> Size:
    """Height and width of an image for which a model with these strides is checked."""
    step = math.lcm(_COARSEST, *strides)
    return 2 * step, 3 * step


def _require_output(shape: Shape | None, names: tuple[str, ...], anchors: int | None) -> None:
    expected = (1, 4 + len(names), anchors if anchors is not None else "A")
    if shape != expected:
        raise Unsupported(
            f"its output has the shape {shape}, and with {len(names)} "
            f"classes it should be {expected}"
        )


def _renamed(values: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(value, value) for value in values)
