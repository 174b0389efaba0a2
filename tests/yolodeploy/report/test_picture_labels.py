"""Shapes and labels of pictures: in the image, beside each other, and the same size everywhere."""

from itertools import combinations

import pytest

from yolodeploy.report.page.shapes import Frame, drawn, labels
from yolodeploy.tasks import Shape


def _box(x: float, y: float, name: str = "triangle") -> Shape:
    return Shape(name, 0.5, ((((x, y), (x + 20, y), (x + 20, y + 20), (x, y + 20))),))


def test_labels_do_not_cover_each_other_and_stay_in_the_image() -> None:
    frame = Frame(640, 480)
    corners = [
        (10, 100),
        (12, 101),
        (14, 99),
        (630, 3),
        (629, 5),
        (0, 470),
        (0, 471),
        (2, 472),
        (0, 300),
    ]
    found = labels([_box(x, y) for x, y in corners], frame)
    wide = 0.62 * frame.letter * len("triangle 0.50")
    spans = [(each.x - wide, each.x) if each.ends else (each.x, each.x + wide) for each in found]
    for (one, a), (other, b) in combinations(zip(found, spans, strict=True), 2):
        apart = a[1] <= b[0] or b[1] <= a[0] or abs(one.y - other.y) >= frame.letter
        assert apart, (one, other)
    for each, (begin, end) in zip(found, spans, strict=True):
        assert 0 <= begin < end <= frame.width
        assert frame.letter / 2 < each.y <= frame.height
    assert found[0].y == pytest.approx(100 - 0.3 * frame.letter, abs=0.1)


def test_letters_are_as_large_in_a_tall_image_as_in_a_wide_one() -> None:
    # A panel is 370 pixels wide and at most 416 high.
    for frame in (Frame(640, 480), Frame(480, 640), Frame(100, 2000), Frame(96, 96)):
        scale = min(370 / frame.width, 416 / frame.height)
        assert 13.5 < frame.letter * scale < 14.5


def test_paths_keep_a_tenth_of_a_pixel_only_where_images_are_small() -> None:
    shape = Shape("a", 1.0, (((1.26, 2.0), (3.0, 4.04), (5.0, 6.0)),), ((1.26, 0.0, 2.0, 2.0),), mark="lost")  # fmt: skip
    assert drawn(shape, Frame(160, 160)).outlines == "M1.3 2L3 4L5 6Z"
    assert drawn(shape, Frame(640, 160)).outlines == "M1 2L3 4L5 6Z"
    assert drawn(shape, Frame(640, 160)).lines == "M1 0L2 2"
    assert drawn(shape, Frame(640, 160)).title == "✕ a 1.00 (lost)"
