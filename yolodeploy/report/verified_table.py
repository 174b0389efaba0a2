"""What became of several bundles that were verified, as a table for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from yolodeploy.system import WIDTH, quotable, shortened

_ID = 12  # characters of an id that are shown
_TITLES = ("bundle", "verdict", "recipe", "device", "id")
_MISSING = "-"
_MOST = (WIDTH, 7, 18, 16, _ID)  # columns; the first takes what the others leave
_NAME = 200  # characters of a name that are read
Row = Mapping[str, Any]


def verified_table(rows: Sequence[Row]) -> str:
    """A line for every bundle, with where else it was measured below it, and how many are as they were deployed."""
    cells = [_TITLES, *(_cells(row) for row in rows)]
    longest = [max(map(len, column)) for column in zip(*cells, strict=True)]
    widths = [min(length, most) for length, most in zip(longest, _MOST, strict=True)]
    widths[0] = min(longest[0], WIDTH - sum(widths[1:]) - len(widths) + 1)
    lines = list[str]()
    for row, evidence in zip(cells, [(), *(row["evidence"] for row in rows)], strict=True):
        columns = zip(row, widths, strict=True)
        padded = [f"{shortened(text, width):<{width}}" for text, width in columns]
        lines.append(" ".join(padded).rstrip())
        lines += map(evidence_text, evidence)
    good = sum(row["ok"] for row in rows)
    return "\n".join([*lines, f"{good} of {len(rows)} ok"])


def evidence_text(place: Mapping[str, Any]) -> str:
    """Where else a bundle was measured, below its own line."""
    text = f"evidence from {quotable(place['words'], 300)}"
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "ok" if row["ok"] else "failed"
    claimed = (row["recipe"], row["device"], (row["id"] or "")[:_ID])
    return (quotable(row["bundle"], _NAME), verdict, *map(_named, claimed))


def _named(claim: object) -> str:
    """A name that a bundle claims, which may be anything."""
    return " ".join(quotable(claim or _MISSING, _NAME).split())
