"""How the cost of single layers is shown: rows for a terminal, and a page with a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from yolodeploy.page import Row, document, table

MOST = 20  # rows on a terminal; the page has them all
_COLOURS = {
    "backbone": "#4c8bf5",
    "neck": "#9a6dd7",
    "head": "#e08a2e",
    "head.last": "#cf222e",
    "dfl": "#1a7f37",
}
_OTHER = "#888"
_HEIGHT, _STEP, _LEFT = 220, 12, 40


def text(name: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """The costliest layers of every step, for a terminal of 80 columns."""
    return "\n\n".join("\n".join(_lines(name, table_)) for table_ in tables)


def _lines(name: str, table_: Mapping[str, Any]) -> Iterable[str]:
    rows = costliest(table_["rows"])
    with_map = any(row["map_drop"] is not None for row in rows)
    yield f"{name}: `{table_['step']}` of one layer alone, the costliest first"
    yield f"  {'layer':<28} {'part':<10} {'scheme':<14} {'weights':>8} {'SQNR dB':>8}{'  mAP' * with_map}"
    for row in rows[:MOST]:
        drop = f" {-row['map_drop']:+.4f}" if with_map else ""
        yield (
            f"  {row['layer'][-28:]:<28} {row['part']:<10} {row['scheme']:<14} "
            f"{row['weights']:>8} {_level(row):>8}{drop}"
        )
    if len(rows) > MOST:
        yield f"  and {len(rows) - MOST} more; the most robust: {rows[-1]['layer']}, {_level(rows[-1])}"


def costliest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows by falling cost; those that change nothing come last."""
    return sorted(rows, key=lambda row: (row["sqnr_db"] is None, row["sqnr_db"] or 0.0))


def _level(row: Mapping[str, Any]) -> str:
    return "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"


def page(name: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """The page: for every step and scheme a plot in order of execution, then the table."""
    body = "".join(_section(table_) for table_ in tables)
    note = (
        "SQNR: power of the model's outputs over the noise that compressing this one layer adds to "
        "them, in decibels. A short bar is a fragile layer."
    )
    return document(f"Sensitivity of {name}", f'<p class="note">{escape(note)}</p>{body}')


def _section(table_: Mapping[str, Any]) -> str:
    rows = table_["rows"]
    schemes = list(dict.fromkeys(row["scheme"] for row in rows))
    plots = "".join(
        f"<h3>{escape(scheme)}</h3>{plot([row for row in rows if row['scheme'] == scheme])}"
        for scheme in schemes
    )
    head = ("layer", "part", "scheme", "weights", "SQNR dB")
    with_map = any(row["map_drop"] is not None for row in rows)
    body = table((*head, "mAP drop") if with_map else head, map(_row, costliest(rows)))
    title = f"{escape(table_['step'])} ({escape(table_['backend'])})"
    return f"<h2>{title}</h2>{plots}<h3>All layers</h3>{body}"


def _row(row: Mapping[str, Any]) -> Row:
    cells: Row = (
        (row["layer"], "code"),
        row["part"],
        row["scheme"],
        (str(row["weights"]), "n"),
        (_level(row), "n"),
    )
    return cells if row["map_drop"] is None else (*cells, (f"{row['map_drop']:+.4f}", "n"))


def plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """An SVG bar chart of the SQNR of layers in order of execution, coloured by part."""
    known = [row["sqnr_db"] for row in rows if row["sqnr_db"] is not None]
    top = max([10.0, *known])
    width = _LEFT + _STEP * len(rows)
    bars = "".join(_bar(number, row, top) for number, row in enumerate(rows))
    lines = "".join(_grid(level, top, width) for level in range(0, int(top) + 1, 10))
    legend = "".join(_key(part) for part in _COLOURS if any(row["part"] == part for row in rows))
    return (
        f'<svg viewBox="0 0 {width} {_HEIGHT + 20}" style="width:100%;max-height:20rem" role="img" '
        f'font-size="11" fill="currentColor">{lines}{bars}</svg><p class="note">{legend}</p>'
    )


def _bar(number: int, row: Mapping[str, Any], top: float) -> str:
    level = top if row["sqnr_db"] is None else max(row["sqnr_db"], 0.0)
    height = _HEIGHT * level / top
    colour = _COLOURS.get(row["part"], _OTHER)
    return (
        f'<rect x="{_LEFT + _STEP * number}" y="{_HEIGHT + 10 - height:.1f}" width="{_STEP - 3}" '
        f'height="{height:.1f}" fill="{colour}"><title>{escape(row["layer"])}: {_level(row)} dB'
        "</title></rect>"
    )


def _grid(level: int, top: float, width: int) -> str:
    y = _HEIGHT + 10 - _HEIGHT * level / top
    return (
        f'<line x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level}</text>'
    )


def _key(part: str) -> str:
    return f'<span class="bar" style="width:.8em;background:{_COLOURS[part]}"></span> {escape(part)} &ensp;'
