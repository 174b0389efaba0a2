"""A comparison as text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from yolodeploy.comparison.differences import Difference
from yolodeploy.comparison.groups import Entry, Group
from yolodeploy.comparison.subject import Figure
from yolodeploy.system import WIDTH, quotable
from yolodeploy.tasks import COLUMNS

_NAME = 19  # columns
_MISSING = "-"
_FRONT = "* no other artifact of its backend here is as good in size, drop and latency ratio, and better in one"


def comparison_table(groups: Sequence[Group]) -> str:
    """The groups one after the other, and what the stars mean."""
    blocks = ["\n".join(_group(group)) for group in groups]
    if any(entry.best for group in groups for entry in group.entries):
        blocks.append(_wrapped("", _FRONT))
    return "\n\n".join(blocks)


def heading(group: Group) -> str:
    """What all artifacts of a group have in common."""
    first = group.first
    images = f", {first.images:,} images" if first.images is not None else ""
    sources = {entry.subject.source for entry in group.entries}
    source = next(iter(sources)) if len(sources) == 1 else None
    told = f", source model {source:.4f}" if source is not None else ""
    apart = f" ({group.apart}: not compared with the above)" if group.apart else ""
    return f"{first.task}{images}{told}{apart}"


def _group(group: Group) -> Iterator[str]:
    yield _wrapped("", heading(group))
    title = COLUMNS.get(group.first.score, group.first.score)
    titles = (
        f"{'MB':>6} {title:>8} {'drop':>8} {'interval':>13} {'fidelity':>8} {'/ fp32':>6} {'ok':>5}"
    )
    yield f"{'':<{_NAME}} {titles}"
    for entry in group.entries:
        yield from _line(entry)
    yield from _latencies(group)
    yield from _differences(group.differences)
    yield from _missing(group.entries)


def _line(entry: Entry) -> Iterator[str]:
    subject, name = entry.subject, f"{'*' if entry.best else ' '} {quotable(entry.label, 70)}"
    if len(name) > _NAME:
        yield name
        name = ""
    passed = f"{sum(subject.checks.values())}/{len(subject.checks)}"
    yield (
        f"{name:<{_NAME}} {subject.megabytes:>6.2f} {number(subject.artifact, '8.4f')} "
        f"{number(subject.drop.value, '+8.4f')} {_interval(subject.drop):>13} "
        f"{number(subject.fidelity.value, '8.4f')} {number(subject.ratio.value, '6.2f')} {passed:>5}"
    )
    if failed := [check for check, ok in subject.checks.items() if not ok]:
        yield _wrapped("    missed: ", ", ".join(failed))


def number(value: float | None, form: str) -> str:
    """A figure in a column; a dash if there is none. Adding 0.0 makes -0.0 a zero."""
    width = int(form.lstrip("+").partition(".")[0])
    return f"{_MISSING:>{width}}" if value is None else format(value + 0.0, form)


def _interval(figure: Figure) -> str:
    if figure.interval is None:
        return ""
    return " ".join(f"{value:+.4f}".replace("0.", ".", 1) for value in figure.interval)


def _latencies(group: Group) -> Iterator[str]:
    """The latencies by place: latencies of two places cannot be compared."""
    for timings in group.places().values():
        ordered = sorted(timings, key=lambda item: item[1].latency.value or 0.0)
        device = " (the device)" if all(timing.on_device for _, timing in timings) else ""
        told = ", ".join(f"{label} {timing.latency.value:.2f}" for label, timing in ordered)
        yield ""
        yield _wrapped("", f"ms on {quotable(timings[0][1].machine, 300)}{device}: {told}")
    if untimed := untimed_reasons(group):
        yield ""
        for reason, labels in untimed.items():
            yield _wrapped("  ", f"{', '.join(labels)}: not timed, {reason}")


def untimed_reasons(group: Group) -> dict[str, list[str]]:
    """Labels of artifacts that were timed nowhere, by the reason."""
    found: dict[str, list[str]] = {}
    for entry in group.entries:
        if all(timing.latency.value is None for timing in entry.subject.timings):
            reason = entry.subject.timings[0].latency.reason or "the report does not say why"
            found.setdefault(reason, []).append(entry.label)
    return found


def _differences(found: Sequence[Difference]) -> Iterator[str]:
    if not found:
        return
    yield ""
    yield "differences between the recipes"
    for difference in found:
        yield f"  {quotable(difference.field, 76)}"
        for value, labels in difference.values.items():
            yield _wrapped("    ", f"{quotable(value, 120)}: {', '.join(labels)}")


def _missing(entries: Sequence[Entry]) -> Iterator[str]:
    """What reports do not have, each reason once."""
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        for reason in entry.subject.missing:
            reasons.setdefault(reason, []).append(entry.label)
    if reasons:
        yield ""
    for reason, labels in reasons.items():
        who = "all" if len(labels) == len(entries) > 1 else ", ".join(labels)
        yield _wrapped("", f"{who}: {reason}")


def _wrapped(indent: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=True,
        break_on_hyphens=False,
    )
