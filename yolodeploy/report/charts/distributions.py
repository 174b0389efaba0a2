"""Distributions of samples: as shares up to a figure (ECDF), or as bars that count (histogram)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from markupsafe import Markup

from yolodeploy.report.charts.drawing import Key, Margins, Spec, clean, figure, scale, with_values
from yolodeploy.report.charts.lines import HEIGHT, axis, line_chart
from yolodeploy.report.charts.values import Axis, Interval, Series, colour_of, short

_MOST_BINS = 24


def ecdf(title: str, series: Sequence[Series], x: Axis) -> Markup:
    """For every figure the share of samples that are at most as large: the steeper, the steadier."""
    steps = [Series(each.name, list(_steps(each)), each.colour) for each in series]
    return line_chart(title, steps, x, Axis("share of runs", 0.0, 1.0, ".0%"))


def _steps(each: Series) -> Iterator[tuple[float, float]]:
    figures = sorted(px for px, _ in each.points)
    for at, value in enumerate(figures):
        yield value, at / len(figures)
        yield value, (at + 1) / len(figures)


def histogram(title: str, series: Sequence[Series], x: Axis) -> Markup:
    """How many samples fall into each of at most 24 bins of equal width, which all series share."""
    figures = [px for each in series for px, _ in each.points]
    low, high = x.domain(figures)
    bins = max(1, min(_MOST_BINS, math.ceil(2 * len(figures) ** (1 / 3))))
    edges = [low + (high - low) * at / bins for at in range(bins + 1)]
    counts = [_counts(each, edges) for each in series]
    top = max((count for row in counts for count in row), default=1)
    pairs = list(enumerate(zip(series, counts, strict=True)))
    drawn = [_bars(each, place, row, edges, x, top) for place, (each, row) in pairs]
    keys = [
        Key(f'<path d="M0 0H22V12H0Z" fill="{colour_of(each.colour, place)}"/>', each.name)
        for place, (each, _) in pairs
    ]
    return figure(title, drawn, HEIGHT, Margins(), keys)


def _counts(each: Series, edges: Sequence[float]) -> list[int]:
    counts, width = [0] * (len(edges) - 1), edges[1] - edges[0]
    for value, _ in each.points:
        if edges[0] <= value <= edges[-1]:
            counts[min(int((value - edges[0]) / width), len(counts) - 1)] += 1
    return counts


def _bars(
    each: Series, place: int, counts: Sequence[int], edges: Sequence[float], x: Axis, top: int
) -> Spec:
    bins: list[tuple[Interval, int]] = [
        (pair, count) for pair, count in zip(pairwise(edges), counts, strict=True) if count
    ]
    values = [
        {"x": low, "x2": high, "y": count, "y2": 0, "text": _text(each.name, low, high, count, x)}
        for (low, high), count in bins
    ]
    colour = colour_of(each.colour, place)
    mark: Spec = {"type": "rect", "fill": colour, "fillOpacity": 0.55, "stroke": colour}
    domain = (edges[0], edges[-1])
    encoding: Spec = {
        "x": {"field": "x", "type": "quantitative", "scale": scale(domain), "axis": axis(x)},
        "y": {"field": "y", "type": "quantitative", "scale": scale((0, top)),
              "axis": axis(Axis("runs", form="d"))},
        "x2": {"field": "x2"},
        "y2": {"field": "y2"},
        "description": {"field": "text"},
    }  # fmt: skip
    return with_values(values, mark, encoding)


def _text(name: str, low: float, high: float, count: int, x: Axis) -> str:
    return clean(f"{name}: {count} at {short(low)} to {short(high)} ({x.title})")
