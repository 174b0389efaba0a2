"""Bars from left to right, one below the other, with their names: sorted figures with intervals, and waterfalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from yolodeploy.report.charts.drawing import (
    FONT,
    WIDTH,
    Margins,
    Spec,
    clean,
    figure,
    scale,
    with_values,
)
from yolodeploy.report.charts.lines import axis
from yolodeploy.report.charts.values import Axis, Bar, colour_of, short

_ROW, _LETTER = 22, 0.6 * FONT  # pixels: height of a row, width of a letter of a wide font
_MOST_NAME, _MOST_TEXT = 18, 14  # letters of a name, and of the text behind a bar


@dataclass(frozen=True)
class _Span:
    """A bar from `low` to `high` in its row."""

    bar: Bar
    low: float
    high: float

    @property
    def text(self) -> str:
        return self.bar.text or short(self.bar.value)


def bar_chart(
    title: str, bars: Sequence[Bar], x: Axis, *, sort: bool = True, letters: int = _MOST_NAME
) -> Markup:
    """A bar from zero for every figure, the largest on top unless told otherwise; at least one.

    Names are cut to so many `letters`; the hover text has the whole.
    """
    order = sorted(bars, key=lambda bar: -bar.value) if sort else bars
    spans = [_Span(bar, min(0.0, bar.value), max(0.0, bar.value)) for bar in order]
    return _chart(title, spans, x, letters=letters)


def waterfall(title: str, steps: Sequence[Bar], x: Axis) -> Markup:
    """What was there after every step: the first and the last as bars from zero, the others from one to the next."""
    spans = []
    for at, step in enumerate(steps):
        whole = at in (0, len(steps) - 1)
        before = 0.0 if whole else steps[at - 1].value
        spans.append(_Span(step, min(before, step.value), max(before, step.value)))
    return _chart(title, spans, x, links=[step.value for step in steps[:-1]])


def _chart(
    title: str,
    spans: Sequence[_Span],
    x: Axis,
    links: Sequence[float] = (),
    letters: int = _MOST_NAME,
) -> Markup:
    ends = [end for span in spans for end in (span.low, span.high, *(span.bar.interval or ()))]
    domain = x.domain([0.0, *ends])
    margins = Margins(
        left=_room([span.bar.name for span in spans], letters),
        right=_room([span.text for span in spans], _MOST_TEXT),
    )
    encoding: Spec = {
        "x": {"field": "low", "type": "quantitative", "scale": scale(domain),
              "axis": {**axis(x), "tickCount": 3}},
        "y": {"field": "row", "type": "quantitative", "scale": scale((len(spans), 0)), "axis": None},
    }  # fmt: skip
    values = [_values(span, row, letters) for row, span in enumerate(spans)]
    layers = [
        _rectangles(values, encoding),
        _links(links, encoding),
        _intervals(spans, encoding),
        _texts("name", values, encoding, {"align": "right", "x": -8}),
        _texts("text", values, encoding, {"x": WIDTH - margins.left - margins.right + 6}),
    ]
    return figure(title, [layer for layer in layers if layer], _ROW * len(spans), margins)


def _room(texts: Sequence[str], most: int) -> int:
    """Pixels for texts of at most so many letters."""
    return round(_LETTER * min(most, max(map(len, texts)))) + 12


def _cut(text: str, most: int) -> str:
    return clean(text if len(text) <= most else f"{text[: most - 1].rstrip()}…")


def _values(span: _Span, row: int, letters: int) -> Mapping[str, Any]:
    bar = span.bar
    return {
        "low": span.low,
        "high": span.high,
        "row": row + 0.15,
        "below": row + 0.85,
        "middle": row + 0.5,
        "name": _cut(bar.name, letters),
        "text": _cut(span.text, _MOST_TEXT),
        "note": clean(bar.note or f"{bar.name}: {span.text}{_interval_text(bar)}"),
        "colour": colour_of(bar.colour),
    }


def _interval_text(bar: Bar) -> str:
    return f", {short(bar.interval[0])} to {short(bar.interval[1])}" if bar.interval else ""


def _rectangles(values: Sequence[Mapping[str, Any]], encoding: Spec) -> Spec:
    more: Spec = {
        "x2": {"field": "high"},
        "y2": {"field": "below"},
        "description": {"field": "note"},
        "fill": {"field": "colour", "type": "nominal", "scale": None},
    }
    return with_values(values, {"type": "rect", "cornerRadius": 2}, {**encoding, **more})


def _links(links: Sequence[float], encoding: Spec) -> Spec:
    """Where one step ends and the next begins."""
    values = [{"low": at, "row": row + 0.85, "to": row + 1.15} for row, at in enumerate(links)]
    mark: Spec = {"type": "rule", "stroke": "var(--muted)", "aria": False}
    return with_values(values, mark, {**encoding, "y2": {"field": "to"}}) if links else {}


def _intervals(spans: Sequence[_Span], encoding: Spec) -> Spec:
    found = [(row, span.bar.interval) for row, span in enumerate(spans)]
    values = [
        {"low": ends[0], "high": ends[1], "row": row + 0.5}
        for row, ends in found
        if ends is not None
    ]
    mark: Spec = {"type": "rule", "stroke": "currentColor", "strokeWidth": 1.5, "aria": False}
    return with_values(values, mark, {**encoding, "x2": {"field": "high"}}) if values else {}


def _texts(field: str, values: Sequence[Mapping[str, Any]], encoding: Spec, place: Spec) -> Spec:
    """Names, or texts, in the middle of their rows; they have the hover text of their bar."""
    mark: Spec = {"type": "text", "align": "left", "baseline": "middle", **place}
    middle = {**encoding["y"], "field": "middle"}
    labelled = {"text": {"field": field}, "description": {"field": "note"}}
    return with_values(values, mark, {"y": middle, **labelled})
