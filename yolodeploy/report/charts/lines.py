"""Lines: one for each series, told apart by colour and by dashes."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from yolodeploy.report.charts.drawing import Key, Margins, Spec, clean, figure, scale, with_values
from yolodeploy.report.charts.values import Axis, Series, colour_of, short

_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 4])
_MOST_TITLES = 34  # points of a line with a hover text
HEIGHT = 200


def line_chart(title: str, series: Sequence[Series], x: Axis, y: Axis) -> Markup:
    """A line through the points of each series, in the order given."""
    points = [point for each in series for point in each.points]
    across, up = x.domain([px for px, _ in points]), y.domain([py for _, py in points])
    encoding: Spec = {
        "x": {"field": "x", "type": "quantitative", "scale": scale(across, log=x.log), "axis": axis(x)},
        "y": {"field": "y", "type": "quantitative", "scale": scale(up, log=y.log), "axis": axis(y)},
    }  # fmt: skip
    drawn = [_line(each, place, encoding) for place, each in enumerate(series)]
    titles = [_titles(each, place, encoding, x, y) for place, each in enumerate(series)]
    keys = [line_key(each, place) for place, each in enumerate(series)]
    return figure(title, [*reversed(drawn), *titles], HEIGHT, Margins(), keys)


def axis(each: Axis) -> Spec:
    """How an axis is written."""
    form = {"format": each.form} if each.form else {}
    return {"title": clean(each.title), **form}


def line_key(each: Series, place: int) -> Key:
    """The legend's entry of a line."""
    dashes = " ".join(map(str, _DASHES[place % len(_DASHES)])) if place else "none"
    stroke = (
        f'stroke="{colour_of(each.colour, place)}" stroke-width="2.5" stroke-dasharray="{dashes}"'
    )
    return Key(f'<path d="M0 6H22" {stroke}/>', each.name)


def line_mark(each: Series, place: int, **more: object) -> Spec:
    """A line as Vega-Lite draws it, without a hover text."""
    mark: Spec = {"type": "line", "stroke": colour_of(each.colour, place), "strokeWidth": 2.25}
    dashes: Spec = {"strokeDash": _DASHES[place % len(_DASHES)]} if place else {}
    return {**mark, **dashes, "aria": False, "strokeJoin": "round", **more}


def _line(each: Series, place: int, encoding: Spec) -> Spec:
    values = [{"x": px, "y": py, "at": at} for at, (px, py) in enumerate(each.points)]
    order: Spec = {"order": {"field": "at", "type": "quantitative"}}
    return with_values(values, line_mark(each, place), {**encoding, **order})


def _titles(each: Series, place: int, encoding: Spec, x: Axis, y: Axis) -> Spec:
    """Points that are seen only under the pointer, with their figures."""
    every = -(-len(each.points) // _MOST_TITLES) or 1
    values = [
        {"x": px, "y": py, "text": _text(each.name, x, px, y, py)}
        for px, py in each.points[::every]
    ]
    mark: Spec = {"type": "point", "filled": True, "size": 90, "opacity": 1}
    mark["color"] = colour_of(each.colour, place)
    return with_values(values, mark, {**encoding, "description": {"field": "text"}}, name="hover")


def _text(name: str, x: Axis, px: float, y: Axis, py: float) -> str:
    return clean(f"{name}: {y.title} {short(py)} at {x.title} {short(px)}")
