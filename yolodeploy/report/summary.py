"""Several recipes as one table, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolodeploy.report.compact import device_latency
from yolodeploy.system import WIDTH, shortened
from yolodeploy.tasks import Key, Measure, one, read_measures

_TITLES = f"{'MB':>7} {'source':>7} {'now':>7} {'drop':>8} {'ms':>6} {'s':>6}"
_MISSING = "-"
Row = Mapping[str, Any]


def summary_table(rows: Sequence[Row]) -> str:
    """A line for every recipe, what it made, and how many went well."""
    measured = any("measures" in _report(row) for row in rows)
    titles = _TITLES if measured else f"{'MB':>7} {'s':>6}"
    said = [("recipe", "verdict"), *((Path(row["recipe"]).stem, _verdict(row)) for row in rows)]
    last = max(len(verdict) for _, verdict in said)
    room = WIDTH - last - len(titles) - 2
    first = min(room, max(len(name) for name, _ in said))
    figures = [titles, *(_all_figures(row, measured=measured) for row in rows)]
    lines = [
        f"{shortened(name, first):<{first}} {verdict:<{last}} {numbers}"
        for (name, verdict), numbers in zip(said, figures, strict=True)
    ]
    good = [row for row in rows if row["ok"]]
    lines.append(f"{len(good)} of {len(rows)} ok")
    return "\n".join([*lines, *_bundles(good)])


def _report(row: Row) -> Row:
    """What was measured, also of one that failed its checks."""
    report: Row = row.get("report", row)
    return report


def _verdict(row: Row) -> str:
    return "ok" if row["ok"] else str(row["error"]["kind"])


def _all_figures(row: Row, *, measured: bool) -> str:
    figures = _figures(_report(row)) if measured else f"{_size(row)} "
    return f"{figures}{row['seconds']:>6.1f}"


def _size(report: Row) -> str:
    size = report.get("artifact", report).get("bytes")
    return f"{_MISSING:>7}" if size is None else f"{size / 1e6:>7.2f}"


def _figures(report: Row) -> str:
    """Size, primary measure of both models, its drop, and the latency."""
    primary, latency = Measure(Key.FIDELITY, None, None), None
    if "measures" in report:
        measures = read_measures(report["measures"])
        primary = one(measures, Key(report["scores"][0]))
        latency = device_latency(report, measures)
    score = " ".join(_number(value, "7.4f") for value in (primary.source, primary.artifact))
    return f"{_size(report)} {score} {_number(primary.loss, '+8.4f')} {_number(latency, '6.1f')} "


def _number(value: float | None, form: str) -> str:
    width = int(form.lstrip("+").partition(".")[0])
    return f"{_MISSING:>{width}}" if value is None else format(value, form)


def _bundles(rows: Sequence[Row]) -> Iterator[str]:
    """The bundles, by folder."""
    folders: dict[str, list[str]] = {}
    for row in rows:
        if "bundle" in row:
            bundle = Path(row["bundle"])
            folders.setdefault(str(bundle.parent), []).append(bundle.name)
    for folder, names in folders.items():
        yield textwrap.fill(
            f"bundles in {folder}: {', '.join(names)}", WIDTH, subsequent_indent="  "
        )
