"""A comparison as a page: the table, charts of what costs what, the same images through all artifacts, what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from yolodeploy.comparison.groups import Entry, Group
from yolodeploy.comparison.sides import side_by_side
from yolodeploy.comparison.subject import Figure
from yolodeploy.comparison.table import heading, number, untimed_reasons
from yolodeploy.measure import pareto_front
from yolodeploy.report import render
from yolodeploy.report.charts import Axis, Bar, Point, bar_chart, scatter
from yolodeploy.tasks import TITLES

_MOST_BARS = 40


def comparison_page(groups: Sequence[Group], problems: Sequence[str]) -> str:
    """One self-contained file, without scripts and requests."""
    count = sum(len(group.entries) for group in groups)
    title = f"{count} artifact{'s' * (count != 1)} compared"
    return render(
        "comparison.html",
        title=title,
        problems=problems,
        groups=[_group(group) for group in groups],
    )


def _group(group: Group) -> Mapping[str, Any]:
    pictures, without = side_by_side(group.entries)
    return {
        "heading": heading(group),
        "task": group.first.task,
        "score": TITLES.get(group.first.score, group.first.score),
        "rows": [_row(entry) for entry in group.entries],
        "starred": any(entry.best for entry in group.entries),
        "charts": list(_charts(group)),
        "notes": [*_notes(group), *without],
        "pictures": pictures,
        "differences": group.differences,
    }


def _row(entry: Entry) -> Mapping[str, Any]:
    subject = entry.subject
    return {
        "label": entry.label,
        "best": entry.best,
        "device": subject.device,
        "backend": subject.backend,
        "size": f"{subject.megabytes:.2f}",
        "artifact": number(subject.artifact, "1.4f"),
        "drop": number(subject.drop.value, "+1.4f"),
        "interval": _interval(subject.drop, "+.4f"),
        "fidelity": number(subject.fidelity.value, "1.4f"),
        "ratio": number(subject.ratio.value, "1.2f"),
        "ratio_interval": _interval(subject.ratio, ".2f"),
        "passed": f"{len(subject.checks)} of {len(subject.checks)}",
        "failed": ", ".join(name for name, ok in subject.checks.items() if not ok),
    }


def _interval(figure: Figure, form: str) -> str:
    if figure.interval is None:
        return ""
    low, high = figure.interval
    return f"{low + 0.0:{form}} to {high + 0.0:{form}}"


def _notes(group: Group) -> Iterator[str]:
    for reason, labels in untimed_reasons(group).items():
        yield f"{', '.join(labels)}: not timed, {reason}."
    for missing in dict.fromkeys(m for entry in group.entries for m in entry.subject.missing):
        who = [entry.label for entry in group.entries if missing in entry.subject.missing]
        yield f"{', '.join(who) if len(who) < len(group.entries) else 'All'}: {missing}."


def _charts(group: Group) -> Iterator[Markup]:
    """What can be drawn of at least two artifacts, for no more of them than can be told apart."""
    entries = group.entries[:_MOST_BARS]
    if len(entries) < 2:
        return
    score = TITLES.get(group.first.score, group.first.score)
    scored = [entry for entry in entries if entry.subject.drop.value is not None]
    if len(scored) > 1:
        yield _plane(scored, score)
        bars = [_bar(entry.label, entry.subject.drop, "+.4f") for entry in scored]
        yield bar_chart(f"Drop of {score}, with its interval", bars, Axis("drop", form=".3f"))
    sizes = [Bar(each.label, each.subject.megabytes, text=f"{each.subject.megabytes:.2f}") for each in entries]  # fmt: skip
    yield bar_chart("Size", sizes, Axis("MB", low=0))
    for timings in group.places().values():
        bars = [_bar(label, timing.latency, ".2f") for label, timing in timings]
        device = ", the device" if all(timing.on_device for _, timing in timings) else ""
        title = f"Latency on {timings[0][1].machine}{device}"
        yield bar_chart(title, bars[:_MOST_BARS], Axis("ms", low=0))


def _bar(label: str, figure: Figure, form: str) -> Bar:
    value = figure.value or 0.0
    return Bar(label, value, figure.interval, f"{value:{form}}")


def _plane(entries: Sequence[Entry], score: str) -> Markup:
    """Size and drop; of artifacts of one backend also those that no other beats in both."""
    points = [
        Point(
            entry.label,
            entry.subject.megabytes,
            entry.subject.drop.value or 0.0,
            entry.subject.backend,
            y_interval=entry.subject.drop.interval,
        )
        for entry in entries
    ]
    alone = len({point.group for point in points}) == 1
    front = pareto_front([(point.x, point.y) for point in points], (True, True)) if alone else []
    ordered = sorted((points[index] for index in front), key=lambda point: point.x)
    axes = Axis("MB"), Axis("", form="+.3f")
    return scatter(f"Drop of {score} over size", points, *axes, front=ordered)
