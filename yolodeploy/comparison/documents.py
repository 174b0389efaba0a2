"""A comparison as plain data, and as a table for a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

from yolodeploy.comparison.groups import Entry, Group
from yolodeploy.comparison.subject import Figure, Subject, Timing
from yolodeploy.comparison.table import heading, number
from yolodeploy.tasks import TITLES

_MARKS = re.compile(r"([\\`*_\[\]|~#])")


def comparison_value(groups: Sequence[Group], problems: Sequence[str]) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "groups": [
            {
                "task": group.first.task,
                "score": group.first.score,
                "images": group.first.images,
                "apart": group.apart or None,
                "artifacts": [_artifact(entry) for entry in group.entries],
                "differences": [
                    {
                        "field": each.field,
                        "values": {value: list(names) for value, names in each.values.items()},
                    }
                    for each in group.differences
                ],
            }
            for group in groups
        ],
        "problems": list(problems),
    }


def _artifact(entry: Entry) -> dict[str, Any]:
    subject = entry.subject
    return {
        "label": entry.label,
        "path": str(subject.path),
        "recipe": subject.name,
        "device": subject.device,
        "backend": subject.backend,
        "front": entry.best,
        "bytes": subject.bytes,
        "source": subject.source,
        "artifact": subject.artifact,
        "drop": _plain(subject.drop),
        "fidelity": subject.fidelity.value,
        "timings": [_timed(timing) for timing in subject.timings],
        "checks": dict(subject.checks),
        "missing": list(subject.missing),
    }


def _plain(figure: Figure) -> dict[str, Any]:
    interval = list(figure.interval) if figure.interval else None
    return {"value": figure.value, "interval": interval, "reason": figure.reason or None}


def _timed(timing: Timing) -> dict[str, Any]:
    return {
        "machine": timing.machine,
        "on_device": timing.on_device,
        "latency_ms": _plain(timing.latency),
        "latency_ratio": _plain(timing.ratio),
    }


def comparison_markdown(groups: Sequence[Group], problems: Sequence[str]) -> str:
    """A compact table for each group, and what differs, folded away."""
    blocks = ["\n".join(_group(group)) for group in groups]
    blocks += [f"> {_escaped(problem)}" for problem in problems]
    return "\n\n".join(blocks)


def _group(group: Group) -> Iterator[str]:
    title = TITLES.get(group.first.score, group.first.score)
    yield f"**{_escaped(heading(group))}**"
    yield ""
    yield f"| | artifact | device | MB | {title} | drop (90 %) | fidelity | latency / fp32 | checks |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for entry in group.entries:
        yield _row(entry)
    if group.differences:
        yield ""
        yield "<details><summary>What differs between the recipes</summary>"
        yield ""
        for difference in group.differences:
            values = "; ".join(
                f"{_escaped(value)} ({_escaped(', '.join(names))})"
                for value, names in difference.values.items()
            )
            yield f"* {_escaped(difference.field)}: {values}"
        yield ""
        yield "</details>"


def _row(entry: Entry) -> str:
    subject = entry.subject
    cells = [
        "★" if entry.best else "",
        _escaped(entry.label),
        _escaped(subject.device),
        f"{subject.megabytes:.2f}",
        number(subject.artifact, "1.4f"),
        _drop(subject.drop),
        number(subject.fidelity.value, "1.4f"),
        number(subject.ratio.value, "1.2f"),
        _checks(subject),
    ]
    return f"| {' | '.join(cells)} |"


def _drop(figure: Figure) -> str:
    told = number(figure.value, "+1.4f")
    return told + (" ({:+.4f} to {:+.4f})".format(*figure.interval) if figure.interval else "")


def _checks(subject: Subject) -> str:
    failed = [name for name, ok in subject.checks.items() if not ok]
    if failed:
        return f"missed: {_escaped(', '.join(failed))}"
    return f"{len(subject.checks)} of {len(subject.checks)}"


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
