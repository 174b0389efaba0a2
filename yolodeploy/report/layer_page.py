"""What compressing single layers costs: rows for a terminal, and a page with a plot."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from yolodeploy.backend import Place
from yolodeploy.report.html import render
from yolodeploy.system import WIDTH
from yolodeploy.tasks import TITLES, Key

MAX_ROWS = 20  # on a terminal; the page shows all

Row = Mapping[str, Any]  # layer, part, scheme, weights, sqnr_db, map_drop


def layer_table(name: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """The costliest layers of every step, for a terminal of 80 columns."""
    return "\n\n".join("\n".join(_lines(name, table)) for table in tables)


def _lines(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    rows = _costliest(table["rows"])
    with_map = any(row["map_drop"] is not None for row in rows)
    yield f"{name}: `{table['step']}` of one layer alone, the costliest first"
    yield f"  {'layer':<28} {'part':<10} {'scheme':<14} {'weights':>8} {'SQNR dB':>8}{f'  {_score(table)}' * with_map}"
    for row in rows[:MAX_ROWS]:
        drop = f" {0.0 - row['map_drop']:+.4f}" if with_map else ""
        yield (
            f"  {row['layer'][-28:]:<28} {row['part']:<10} {row['scheme']:<14} "
            f"{row['weights']:>8} {_decibels(row):>8}{drop}"
        )
    if len(rows) > MAX_ROWS:
        yield f"  and {len(rows) - MAX_ROWS} more; the most robust: {rows[-1]['layer']}, {_decibels(rows[-1])}"
    yield textwrap.fill(f"  {_measured(table)}", WIDTH, subsequent_indent="  ")


def _measured(table: Mapping[str, Any]) -> str:
    place = Place(**table["place"])
    return f"measured in {place.runtime} {place.version} on {place.words()}"


def _costliest(rows: Sequence[Row]) -> list[Row]:
    """Rows by falling cost; those without any change come last."""
    return sorted(rows, key=lambda row: (row["sqnr_db"] is None, row["sqnr_db"] or 0.0))


def _score(table: Mapping[str, Any]) -> str:
    """What the task's measure is called in the head of a narrow column."""
    return TITLES[table["measure"]] if table["measure"] == Key.TOP1 else "mAP"


def _decibels(row: Row) -> str:
    return "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"


def layer_page(name: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """The page: for every step and scheme a plot in order of execution, then the table."""
    return render("layers.html", name=name, steps=[_step(table) for table in tables])


def _step(table: Mapping[str, Any]) -> dict[str, Any]:
    rows = table["rows"]
    schemes = dict.fromkeys(row["scheme"] for row in rows)
    return {
        "step": table["step"],
        "measured": _measured(table),
        "backend": table["backend"],
        "plots": [_plot(s, [row for row in rows if row["scheme"] == s]) for s in schemes],
        "score": _score(table),
        "with_map": any(row["map_drop"] is not None for row in rows),
        "rows": [{**row, "level": _decibels(row)} for row in _costliest(rows)],
    }


def _plot(scheme: str, rows: Sequence[Row]) -> Markup:
    """A column for the SQNR of each layer, in order of execution, coloured by part; as high as the highest where nothing changes."""
    from yolodeploy.report.charts import Axis, Bar, column_chart

    top = max([10.0, *(row["sqnr_db"] for row in rows if row["sqnr_db"] is not None)])
    bars = [
        Bar(
            row["layer"],
            top if row["sqnr_db"] is None else row["sqnr_db"],
            note=f"{row['layer']}: {_decibels(row)} dB ({row['part']})",
            group=row["part"] or "other",
        )
        for row in rows
    ]
    return column_chart(scheme, bars, "layers in order of execution", Axis("SQNR, dB"))
