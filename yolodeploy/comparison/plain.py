"""A comparison as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yolodeploy.comparison.groups import Entry, Group
from yolodeploy.comparison.subject import Figure, Timing


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
