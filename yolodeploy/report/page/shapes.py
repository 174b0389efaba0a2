"""Shapes as paths of SVG in pixels of their image, and labels that do not cover each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yolodeploy.tasks import Shape

SIGNS = {"lost": "✕ ", "added": "+ ", "changed": "≠ "}
_WIDE, _MOST_MOVES = 0.62, 8  # width of a usual letter; how often a label is moved for another
Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The size of an image in pixels."""

    width: int
    height: int

    @property
    def letter(self) -> float:
        """The height of a letter that is as large in every panel."""
        return max(self.width / 26, self.height / 30)


@dataclass(frozen=True)
class Drawn:
    """A shape: paths of its outlines and lines, its points, and its hover text."""

    mark: str
    outlines: str
    lines: str
    points: Sequence[Point]
    title: str


@dataclass(frozen=True)
class Label:
    """A text that begins at x, on the line y; at the right edge of the image it `ends` there."""

    mark: str
    text: str
    x: float
    y: float
    ends: bool


def drawn(shape: Shape, frame: Frame) -> Drawn:
    """Paths to whole pixels, or to a tenth in a small image."""
    digits, mark = (0 if frame.width > 300 else 1), shape.mark or ""
    lines = (f"M{_pair(a, b, digits)}L{_pair(c, d, digits)}" for a, b, c, d in shape.lines)
    return Drawn(
        mark=mark,
        outlines="".join(_closed(outline, digits) for outline in shape.outlines),
        lines="".join(lines),
        points=shape.points,
        title=f"{_text(shape)} ({mark})" if mark else _text(shape),
    )


def _text(shape: Shape) -> str:
    return f"{SIGNS.get(shape.mark or '', '')}{shape.name} {score(shape)}".rstrip()


def score(shape: Shape) -> str:
    """The confidence in two digits; "" for a label."""
    return "" if shape.score is None else f"{shape.score:.2f}"


def _closed(outline: Sequence[Point], digits: int) -> str:
    return "M" + "L".join(_pair(x, y, digits) for x, y in outline) + "Z"


def _pair(x: float, y: float, digits: int) -> str:
    return f"{round(x, digits) + 0.0:g} {round(y, digits) + 0.0:g}"


def labels(shapes: Sequence[Shape], frame: Frame) -> list[Label]:
    """A label above each shape; the first ones have their place, later ones go where none is yet, as far as there is room."""
    taken: list[tuple[float, float, float]] = []
    return [_label(shape, frame, taken) for shape in shapes]


def _label(shape: Shape, frame: Frame, taken: list[tuple[float, float, float]]) -> Label:
    letter, text = frame.letter, _text(shape)
    corners = [point for outline in shape.outlines for point in outline] or list(shape.points)
    top, left = min(((y, x) for x, y in corners), default=(0.0, 0.0))
    wide = _WIDE * letter * len(text)
    begin = min(max(left, 0.2 * letter), frame.width - wide - 0.2 * letter)
    ends = begin < left  # it would not fit otherwise
    wanted = top - 0.3 * letter if top > 1.2 * letter else top + letter
    lines = [line for line in _lines(wanted, letter) if letter <= line <= frame.height - letter / 4]
    free = (
        line
        for line in lines
        if not any(_meet((begin, begin + wide, line), other, letter) for other in taken)
    )
    y = next(free, lines[0] if lines else letter)
    taken.append((begin, begin + wide, y))
    x = frame.width - 0.2 * letter if ends else begin
    return Label(shape.mark or "", text, round(x, 1), round(y, 1), ends)


def _lines(wanted: float, letter: float) -> Iterator[float]:
    """Where a label would be, and then the lines below and above, the nearest first."""
    yield wanted
    for step in range(1, _MOST_MOVES):
        yield wanted + 1.15 * letter * step
        yield wanted - 1.15 * letter * step


def _meet(
    one: tuple[float, float, float], other: tuple[float, float, float], letter: float
) -> bool:
    """Whether two labels (from x to x, on the line y) cover each other."""
    return one[0] < other[1] and other[0] < one[1] and abs(one[2] - other[2]) < 1.1 * letter
