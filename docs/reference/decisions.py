"""The index of decisions, from their titles."""

from __future__ import annotations

from pathlib import Path

INTRODUCTION = """\
# Decisions

Choices that someone will question, with the reasons: one page each, in the order in which they were taken.
"""


def decisions_page(folder: Path) -> str:
    """A line for each decision."""
    lines = []
    for file in sorted(folder.glob("[0-9]*.md")):
        title = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({file.name})")
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"
