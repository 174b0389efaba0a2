"""The images of a bundle as panels side by side: what is labelled, what the source model found, what the artifact found.

Shapes become paths over one reduced copy of the image, in pixels of the original. What differs has a mark, which the page
shows by dashes and signs as well as by colour.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from yolodeploy.tasks import Picture, Pictures, Shape

_MARKS = ("lost", "added", "changed")
_SIGNS = {"lost": "✕ ", "added": "+ ", "changed": "≠ "}
_MOST_LABELS = 12  # shapes of a panel that are named even if nothing about them differs
_LETTERS = 26  # as wide as they are high, across an image
_PANELS = {"truth": "labels", "source": "source model", "artifact": "artifact"}


@dataclass(frozen=True)
class Drawn:
    """A shape: paths of its outlines and lines, its points, and its label and where that begins or, at the right edge, ends."""

    mark: str
    outlines: str
    lines: str
    points: Sequence[tuple[float, float]]
    label: str
    at: tuple[float, float]
    ends: bool
    title: str


@dataclass(frozen=True)
class Answer:
    """A class of a whole image: its name, probability and sign, and the length of its bar in percent."""

    mark: str
    sign: str
    name: str
    text: str
    length: str


@dataclass(frozen=True)
class Panel:
    """What one of the three sees in an image; `words` say it to who cannot."""

    kind: str
    title: str
    words: str
    shapes: Sequence[Drawn]
    answers: Sequence[Answer] = ()


@dataclass(frozen=True)
class Shown:
    """An image and its panels; `jpeg` is its copy in base64, `letter` is the size of a label and `dot` the radius of a point, in its pixels."""

    image: str
    jpeg: str
    width: int
    height: int
    note: str
    truth: str
    panels: Sequence[Panel]
    letter: float
    dot: float


@dataclass(frozen=True)
class Gallery:
    """The images that differ most, the worst first, and some of all."""

    task: str
    worst: Sequence[Shown]
    sample: Sequence[Shown]


def gallery(pictures: Pictures) -> Gallery:
    """The panels of pictures."""
    classify = pictures.task == "classify"
    rows = [(each.chosen, _shown(each, classify=classify)) for each in pictures.pictures]
    worst, sample = ([each for why, each in rows if why == kind] for kind in ("worst", "sample"))
    return Gallery(pictures.task, worst, sample)


def _shown(picture: Picture, *, classify: bool) -> Shown:
    truth = {shape.name for shape in picture.truth or ()} if classify else None
    found = {"truth": picture.truth, "source": picture.source, "artifact": picture.artifact}
    return Shown(
        image=picture.image,
        jpeg=base64.b64encode(picture.jpeg).decode("ascii"),
        width=picture.width,
        height=picture.height,
        note=_note(picture),
        truth=", ".join(sorted(truth or ())),
        panels=[
            _panel(kind, shapes, picture.width, truth)
            for kind, shapes in found.items()
            if shapes is not None
        ],
        letter=round(picture.width / _LETTERS, 1),
        dot=round(picture.width / 120, 1),
    )


def _note(picture: Picture) -> str:
    """How much of it both see alike, and what differs."""
    marks = Counter[str](shape.mark or "" for shape in (*picture.source, *picture.artifact))
    marks["changed"] = sum(shape.mark == "changed" for shape in picture.artifact)
    parts = [f"{marks[mark]} {mark}" for mark in _MARKS if marks[mark]]
    if picture.fidelity is not None:
        parts.insert(0, f"fidelity {picture.fidelity:.2f}")
    return ", ".join(parts)


def _panel(kind: str, shapes: Sequence[Shape], width: int, right: Collection[str] | None) -> Panel:
    """A panel; `right` are the labelled classes where the answers are classes, not shapes."""
    title = _PANELS[kind]
    words = f"{title}: {_words(shapes)}"
    if right is not None:
        return Panel(kind, title, words, (), [_answer(shape, right) for shape in shapes])
    few = len(shapes) <= _MOST_LABELS
    drawn = [_drawn(shape, width, named=few) for shape in shapes]
    return Panel(kind, title, words, sorted(drawn, key=lambda each: bool(each.mark)))


def _words(shapes: Sequence[Shape]) -> str:
    """What is there, counted by class, as in "2 cat, 1 dog"."""
    counts = Counter(shape.name for shape in shapes)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common(8))
    more = f" and {len(counts) - 8} more classes" if len(counts) > 8 else ""
    return (listed or "nothing") + more


def _answer(shape: Shape, right: Collection[str]) -> Answer:
    sign = _SIGNS.get(shape.mark or "", "") + ("✓ " if shape.name in right else "")
    length = f"{100 * (shape.score or 0):.1f}"
    return Answer(shape.mark or "", sign, shape.name, _score(shape), length)


def _score(shape: Shape) -> str:
    return "" if shape.score is None else f"{shape.score:.2f}"


def _drawn(shape: Shape, width: int, *, named: bool) -> Drawn:
    digits, mark = (0 if width > 300 else 1), shape.mark or ""
    label = f"{_SIGNS.get(mark, '')}{shape.name} {_score(shape)}".rstrip()
    corners = [point for outline in shape.outlines for point in outline]
    at, ends = _place(corners or shape.points, width)
    return Drawn(
        mark=mark,
        outlines="".join(_closed(outline, digits) for outline in shape.outlines),
        lines="".join(
            f"M{_pair(x1, y1, digits)}L{_pair(x2, y2, digits)}" for x1, y1, x2, y2 in shape.lines
        ),
        points=shape.points,
        label=label if named or mark else "",
        at=at,
        ends=ends,
        title=f"{label} ({mark})" if mark else label,
    )


def _place(points: Iterable[tuple[float, float]], width: int) -> tuple[tuple[float, float], bool]:
    """Where a label begins: above the leftmost of the highest corners; in the last third of the image it ends at the edge."""
    letter = width / _LETTERS
    y, x = min(((y, x) for x, y in points), default=(0.0, 0.0))
    y = y - 0.3 * letter if y > 1.2 * letter else y + letter
    ends = x > 0.68 * width
    return (
        _rounded(width - 0.2 * letter if ends else max(x, 0.2 * letter), 1),
        _rounded(y, 1),
    ), ends


def _closed(outline: Sequence[tuple[float, float]], digits: int) -> str:
    return "M" + "L".join(_pair(x, y, digits) for x, y in outline) + "Z"


def _pair(x: float, y: float, digits: int) -> str:
    return f"{_rounded(x, digits):g} {_rounded(y, digits):g}"


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0
