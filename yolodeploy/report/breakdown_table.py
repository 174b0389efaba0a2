"""The breakdown by step as lines for a terminal of 80 columns, and as cells for the page."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.report.report import signed
from yolodeploy.system import WIDTH, ImageShape
from yolodeploy.tasks import COLUMNS, FINDINGS, TITLES

Row = Mapping[str, Any]  # a `measure.Row` as plain data
Report = Mapping[str, Any]


def _short(number: float) -> str:
    """Three digits and a unit, such as 3.01M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:#.3g}".rstrip(".") + unit
    return f"{number:g}"


# field -> title, width on a terminal, format
_COLUMNS: dict[str, tuple[str, int, Callable[[float], str]]] = {
    "step": ("step", 16, str),
    "parameters": ("params", 6, _short),
    "flops": ("FLOPs", 5, _short),
    "bytes": ("MB", 6, lambda number: f"{number / 1e6:.2f}"),
    "score": ("", 8, lambda number: f"{number:.4f}"),  # the title is that of the task's measure
    "drop": ("drop", 7, signed),
    "fidelity": ("fidelity", 8, lambda number: f"{number:.4f}"),
    "latency_ms": ("ms", 7, lambda number: f"{number:.2f}"),
    "speedup": ("speed", 6, lambda number: f"{number:.2f}x"),
}


def titles(report: Report) -> tuple[str, ...]:
    """The titles of the columns."""
    return tuple(_title(report, field, title) for field, (title, _, _) in _COLUMNS.items())


def _title(report: Report, field: str, title: str) -> str:
    return COLUMNS[report["scores"][0]] if field == "score" else title


def has_results_between(rows: Sequence[Row]) -> bool:
    """Whether a result between the source model and the artifact was measured."""
    return any(row["fidelity"] is not None or row["score"] is not None for row in rows[1:-1])


def cells(row: Row) -> tuple[str, ...]:
    """The figures of a row as text, in the order of `titles`; "-" for what was not measured."""
    return tuple(_text(row, field) for field in _COLUMNS)


def _text(row: Row, field: str) -> str:
    return "-" if row[field] is None else _COLUMNS[field][2](row[field])


def lines(report: Report) -> Iterator[str]:
    """The table, what its columns mean, and why figures are missing."""
    yield _line(titles(report))
    for row in report["chain"]:
        yield _line(cells(row))
    for text in notes(report):
        yield textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _line(texts: Sequence[str]) -> str:
    columns = zip(texts, _COLUMNS.values(), strict=True)
    first, *rest = (text.rjust(width) for text, (_, width, _) in columns)
    return "  " + " ".join([first.strip().ljust(len(first)), *rest])


def notes(report: Report) -> Iterator[str]:
    """What the columns mean, which runtime gave the accuracy, and why figures are missing."""
    rows, imgsz = report["chain"], ImageShape.of(report["imgsz"])
    score, found = TITLES[report["scores"][0]], FINDINGS[report["model"]["task"]]
    yield (
        f"FLOPs: two per multiply-accumulate, one image of {imgsz}. drop: of {score}, "
        f"against the step before. fidelity: to the first model's {found}. ms: median latency per image on "
        "the target's runtime, all in turns; before `export`, that of the step's plain fp32 export. "
        "speed: how many times as fast as the first row."
    )
    runtimes: dict[str, list[str]] = {}
    for row in rows:
        where = f" on {row['host']}" if row["host"] else ""
        runtimes.setdefault(row["runtime"] and row["runtime"] + where, []).append(row["step"])
    measured = (f"{', '.join(steps)} in {name}" for name, steps in runtimes.items() if name)
    yield f"Accuracy measured: {'; '.join(measured)}."
    for reason, fields in _missing(rows).items():
        by_steps: dict[str, list[str]] = {}
        for field, steps in fields.items():
            by_steps.setdefault(", ".join(steps), []).append(
                _title(report, field, _COLUMNS[field][0])
            )
        listed = "; ".join(
            f"{', '.join(columns)} of {steps}" for steps, columns in by_steps.items()
        )
        yield f"Not measured: {listed}: {reason}."


def _missing(rows: Sequence[Row]) -> dict[str, dict[str, list[str]]]:
    """Names of steps by reason and field, without what the first row cannot have."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for field, reason in row["reasons"].items():
            if row is not rows[0] or field not in ("drop", "fidelity"):
                found.setdefault(reason, {}).setdefault(field, []).append(row["step"])
    return found
