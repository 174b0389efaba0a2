"""Columns side by side in a given order, such as that of execution, coloured by group."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from yolodeploy.report.charts.drawing import Key, Margins, Spec, clean, figure, scale, with_values
from yolodeploy.report.charts.lines import HEIGHT, axis
from yolodeploy.report.charts.values import Axis, Bar, colour_of, short

_GAP = 0.15  # of a column


def column_chart(title: str, bars: Sequence[Bar], x: str, y: Axis) -> Markup:
    """A column for every figure; `x` says what they are. Names are hover texts, for hundreds may stand side by side."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    colours = {group: colour_of("", place) for place, group in enumerate(groups)}
    low, high = y.domain([0.0, *(bar.value for bar in bars)])
    values = [
        {
            "x": at + _GAP,
            "x2": at + 1 - _GAP,
            "y": 0,
            "y2": bar.value,
            "text": clean(bar.note or f"{bar.name}: {bar.text or short(bar.value)}"),
            "colour": colour_of(bar.colour) if bar.colour else colours[bar.group],
        }
        for at, bar in enumerate(bars)
    ]
    across: Spec = {"title": clean(x), "labels": False, "grid": False}
    encoding: Spec = {
        "x": {"field": "x", "type": "quantitative", "scale": scale((0, len(bars))), "axis": across},
        "y": {"field": "y", "type": "quantitative", "scale": scale((low, high)), "axis": axis(y)},
        "x2": {"field": "x2"},
        "y2": {"field": "y2"},
        "fill": {"field": "colour", "type": "nominal", "scale": None},
        "description": {"field": "text"},
    }  # fmt: skip
    keys = [
        Key(f'<path d="M3 0H19V12H3Z" fill="{colour}"/>', group)
        for group, colour in colours.items()
        if group
    ]
    return figure(title, [with_values(values, {"type": "rect"}, encoding)], HEIGHT, Margins(), keys)
