"""The images of a bundle as panels side by side: what is labelled, what the source model found, what the artifact found.

Shapes lie over one reduced copy of the image. What differs has a mark, which the page shows by dashes and signs as well as
by colour.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from yolodeploy.report.page.shapes import SIGNS, Drawn, Frame, Label, drawn, labels, score
from yolodeploy.tasks import Picture, Pictures, Shape

_MARKS = ("lost", "added", "changed")
_MOST_LABELS = 9  # shapes of a panel that are named even if nothing about them differs
_PANELS = {"truth": "labels", "source": "source model", "artifact": "artifact"}


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
    count: int
    shapes: Sequence[Drawn] = ()
    labels: Sequence[Label] = ()
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
    frame = Frame(picture.width, picture.height)
    found = {"truth": picture.truth, "source": picture.source, "artifact": picture.artifact}
    return Shown(
        image=picture.image,
        jpeg=base64.b64encode(picture.jpeg).decode("ascii"),
        width=picture.width,
        height=picture.height,
        note=_note(picture),
        truth=", ".join(sorted(truth or ())),
        panels=[
            _panel(kind, shapes, frame, truth)
            for kind, shapes in found.items()
            if shapes is not None
        ],
        letter=round(frame.letter, 1),
        dot=round(frame.letter / 5, 1),
    )


def _note(picture: Picture) -> str:
    """How much of it both see alike, and what differs."""
    marks = Counter[str](shape.mark or "" for shape in (*picture.source, *picture.artifact))
    marks["changed"] = sum(shape.mark == "changed" for shape in picture.artifact)
    parts = [f"{marks[mark]} {mark}" for mark in _MARKS if marks[mark]]
    if picture.fidelity is not None:
        parts.insert(0, f"fidelity {picture.fidelity:.2f}")
    return ", ".join(parts)


def _panel(
    kind: str, shapes: Sequence[Shape], frame: Frame, right: Collection[str] | None
) -> Panel:
    """A panel; `right` are the labelled classes where the answers are classes, not shapes."""
    title = _PANELS[kind]
    words = f"{title}: {_words(shapes)}"
    if right is not None:
        answers = [_answer(shape, right) for shape in shapes]
        return Panel(kind, title, words, len(shapes), answers=answers)
    order = sorted(shapes, key=lambda shape: shape.mark is not None)  # what differs lies on top
    named = [shape for shape in order if shape.mark or len(shapes) <= _MOST_LABELS]
    return Panel(
        kind,
        title,
        words,
        len(shapes),
        shapes=[drawn(shape, frame) for shape in order],
        labels=labels(list(reversed(named)), frame),
    )


def _words(shapes: Sequence[Shape]) -> str:
    """What is there, counted by class, as in "2 cat, 1 dog"."""
    counts = Counter(shape.name for shape in shapes)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common(8))
    more = f" and {len(counts) - 8} more classes" if len(counts) > 8 else ""
    return (listed or "nothing") + more


def _answer(shape: Shape, right: Collection[str]) -> Answer:
    sign = SIGNS.get(shape.mark or "", "") + ("✓ " if shape.name in right else "")
    length = f"{100 * (shape.score or 0):.1f}"
    return Answer(shape.mark or "", sign, shape.name, score(shape), length)
