"""Results as small tables of a notebook: HTML without scripts or links, every text escaped, in the colours of the page around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from yolodeploy.system import straight

_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CELL = "padding:2px 10px;text-align:{0}"
_GOOD, _BAD = "#2a7f3f", "#c0392b"
Cells = Sequence[str]


def head(name: str, verdict: str, rest: str = "", *, good: bool) -> str:
    """A line: a name, a verdict in its colour, and the rest."""
    mark = f'<b style="color:{_GOOD if good else _BAD}">{_escaped(verdict)}</b>'
    return f"<div><b>{_escaped(name)}</b> {mark}{_escaped(rest)}</div>"


def table(titles: Cells, rows: Iterable[Cells], *, left: Sequence[int] = ()) -> str:
    """A table whose first column, and those in `left`, are text."""

    def cells(tag: str, row: Cells) -> Iterator[str]:
        for index, text in enumerate(row):
            style = _CELL.format("left" if index == 0 or index in left else "right")
            yield f'<{tag} style="{style}">{_escaped(text)}</{tag}>'

    top = "".join(cells("th", titles))
    body = "".join(f"<tr>{''.join(cells('td', row))}</tr>" for row in rows)
    return f'<table style="{_TABLE}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def text(words: str) -> str:
    """Words as they are, line by line."""
    return f'<pre style="white-space:pre-wrap">{_escaped(words)}</pre>'


def _escaped(words: str) -> str:
    return escape(straight(words))
