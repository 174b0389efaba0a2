"""Points in a plane, groups told apart by colour and shape, with the front of those that no other dominates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from yolodeploy.report.charts.drawing import (
    FONT,
    Key,
    Margins,
    Spec,
    clean,
    figure,
    scale,
    with_values,
)
from yolodeploy.report.charts.lines import axis
from yolodeploy.report.charts.values import Axis, Point, colour_of, short

_SHAPES = {  # of Vega, and the same in a legend of 22 by 12
    "circle": "M16 6A5 5 0 1 1 6 6A5 5 0 1 1 16 6Z",
    "square": "M6 1H16V11H6Z",
    "triangle-up": "M11 0L17 11H5Z",
    "diamond": "M11 0L17 6L11 12L5 6Z",
    "cross": "M9 0H13V4H17V8H13V12H9V8H5V4H9Z",
    "triangle-down": "M5 1H17L11 12Z",
}
_HEIGHT, _MOST_NAMES = 240, 12
_LABELS, _TITLE, _LETTER = 35, 25, 0.6 * FONT  # pixels


def scatter(
    title: str, points: Sequence[Point], x: Axis, y: Axis, *, front: Sequence[Point] = ()
) -> Markup:
    """Points with their intervals; `front` is joined by a dashed line, and named where it has at most 12 points."""
    across, up = _domain(x, points, "x"), _domain(y, points, "y")
    room = _room(y, up)
    beside: Spec = {**axis(y), "minExtent": room, "maxExtent": room}
    encoding: Spec = {
        "x": {"field": "x", "type": "quantitative", "scale": scale(across, log=x.log), "axis": axis(x)},
        "y": {"field": "y", "type": "quantitative", "scale": scale(up, log=y.log), "axis": beside},
    }  # fmt: skip
    groups = list(dict.fromkeys(point.group for point in points))
    drawn = [
        _marks([p for p in points if p.group == group], place, encoding, (x, y))
        for place, group in enumerate(groups)
    ]
    intervals = [_intervals(points, encoding, "x"), _intervals(points, encoding, "y")]
    named = front if len(front) <= _MOST_NAMES else ()
    layers = [_front(front, encoding), *intervals, *drawn, _names(named, encoding)]
    keys = [_key(group, place) for place, group in enumerate(groups) if group]
    if front:
        dashed = '<path d="M0 6H22" stroke="currentColor" stroke-dasharray="3 3"/>'
        keys.append(Key(dashed, "front: nothing else is better in both"))
    return figure(
        title, [layer for layer in layers if layer], _HEIGHT, Margins(left=room + _TITLE), keys
    )


def _room(y: Axis, ends: tuple[float, float]) -> int:
    """Pixels for the labels of the vertical axis, which are long where the figures are small."""
    if y.log or y.form:
        return _LABELS
    digits = max(0, math.ceil(-math.log10((ends[1] - ends[0]) / 6)))
    return max(_LABELS, math.ceil((digits + 2 + (ends[0] < 0)) * _LETTER) + 4)


def _key(group: str, place: int) -> Key:
    path = list(_SHAPES.values())[place % len(_SHAPES)]
    return Key(f'<path d="{path}" fill="{colour_of("", place)}"/>', group)


def _domain(axis_: Axis, points: Sequence[Point], side: str) -> tuple[float, float]:
    """From where to where an axis goes, with some room around what is drawn."""
    ends = [getattr(point, f"{side}_interval") or (getattr(point, side),) * 2 for point in points]
    low, high = axis_.domain([end for pair in ends for end in pair])
    if axis_.log:
        return (low if axis_.low is not None else low / 1.15), (high if axis_.high else high * 1.15)
    room = 0.06 * (high - low)
    return (low if axis_.low is not None else low - room), (
        high if axis_.high is not None else high + room
    )


def _marks(points: Sequence[Point], place: int, encoding: Spec, axes: tuple[Axis, Axis]) -> Spec:
    values = [{"x": p.x, "y": p.y, "text": _text(p, axes)} for p in points]
    shape = list(_SHAPES)[place % len(_SHAPES)]
    mark: Spec = {"type": "point", "filled": True, "size": 80, "opacity": 1, "shape": shape}
    mark["color"] = colour_of("", place)
    return with_values(values, mark, {**encoding, "description": {"field": "text"}}, name="points")


def _text(point: Point, axes: tuple[Axis, Axis]) -> str:
    x, y = axes
    figures = f"{x.title} {short(point.x)}, {y.title} {short(point.y)}"
    return clean(point.note or f"{point.name}: {figures}")


def _intervals(points: Sequence[Point], encoding: Spec, side: str) -> Spec:
    """Rules from end to end of the intervals along one axis."""
    found = [(point, getattr(point, f"{side}_interval")) for point in points]
    values: list[Mapping[str, Any]] = [
        {"x": p.x, "y": p.y, side: ends[0], f"{side}2": ends[1]} for p, ends in found if ends
    ]
    mark: Spec = {"type": "rule", "stroke": "var(--muted)", "aria": False}
    more: Spec = {f"{side}2": {"field": f"{side}2"}}
    return with_values(values, mark, {**encoding, **more}) if values else {}


def _front(front: Sequence[Point], encoding: Spec) -> Spec:
    values = [{"x": p.x, "y": p.y} for p in sorted(front, key=lambda p: (p.x, p.y))]
    mark: Spec = {"type": "line", "stroke": "currentColor", "strokeDash": [3, 3], "aria": False}
    return with_values(values, {**mark, "strokeWidth": 1}, encoding) if len(values) > 1 else {}


def _names(front: Sequence[Point], encoding: Spec) -> Spec:
    values = [{"x": p.x, "y": p.y, "text": clean(p.name)} for p in front]
    mark: Spec = {"type": "text", "align": "left", "dx": 8, "dy": -8, "limit": 140, "aria": False}
    return with_values(values, mark, {**encoding, "text": {"field": "text"}}) if values else {}
