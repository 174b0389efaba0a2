"""A comparison as tables for a pull request; names from outside mention nobody, link nowhere and end no cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from yolodeploy.comparison.differences import Difference
from yolodeploy.comparison.groups import Entry, Group
from yolodeploy.comparison.subject import Figure, Subject
from yolodeploy.comparison.table import heading, number
from yolodeploy.report import markdown_code, markdown_folded, markdown_table
from yolodeploy.tasks import TITLES

_TEXTS = (0, 1, 2, 8)  # columns


def comparison_markdown(groups: Sequence[Group], problems: Sequence[str]) -> str:
    """A compact table for each group, what differs, folded away, and what could not be read."""
    blocks = ["\n".join(_group(group)) for group in groups]
    blocks += [f"> {markdown_code(problem)}" for problem in problems]
    return "\n\n".join(blocks)


def _group(group: Group) -> Iterator[str]:
    score = TITLES.get(group.first.score) or markdown_code(group.first.score)
    titles = (
        "",
        "artifact",
        "device",
        "MB",
        score,
        "drop (interval)",
        "fidelity",
        "latency / fp32",
        "checks",
    )
    yield markdown_code(heading(group))
    yield ""
    yield from markdown_table(titles, [_row(entry) for entry in group.entries], left=_TEXTS)
    if group.differences:
        lines = [_difference(each) for each in group.differences]
        yield ""
        yield from markdown_folded("What differs between the recipes", lines)


def _row(entry: Entry) -> list[str]:
    subject = entry.subject
    return [
        "★" if entry.best else "",
        markdown_code(entry.label),
        markdown_code(subject.device),
        f"{subject.megabytes:.2f}",
        number(subject.artifact, "1.4f"),
        _drop(subject.drop),
        number(subject.fidelity.value, "1.4f"),
        number(subject.ratio.value, "1.2f"),
        _checks(subject),
    ]


def _drop(figure: Figure) -> str:
    told = number(figure.value, "+1.4f")
    return told + (" ({:+.4f} to {:+.4f})".format(*figure.interval) if figure.interval else "")


def _checks(subject: Subject) -> str:
    if failed := [name for name, ok in subject.checks.items() if not ok]:
        return f"❌ {markdown_code(', '.join(failed))}"
    return f"{len(subject.checks)} passed"


def _difference(difference: Difference) -> str:
    values = "; ".join(
        f"{markdown_code(value)} ({markdown_code(', '.join(names))})"
        for value, names in difference.values.items()
    )
    return f"* {markdown_code(difference.field)}: {values}"
