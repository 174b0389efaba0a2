"""Which artifacts can be compared, how they are called, and which of them no other beats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.comparison.differences import Difference, differences
from yolodeploy.comparison.subject import Subject, Timing
from yolodeploy.measure import pareto_front
from yolodeploy.system import shown

_LEAST = (True, True, True)  # size, drop, latency ratio: less is better


@dataclass(frozen=True)
class Entry:
    """A subject under a label of its own; `best` says that it is on the front of its backend, None if it is the only one."""

    label: str
    subject: Subject
    best: bool | None


@dataclass(frozen=True)
class Group:
    """Artifacts of the same model, task and evaluation images; `apart` says what sets the group apart from the first."""

    entries: Sequence[Entry]
    differences: Sequence[Difference]
    apart: str = ""

    @property
    def first(self) -> Subject:
        """One of them, for what all have in common."""
        return self.entries[0].subject

    def places(self) -> dict[str, list[tuple[str, Timing]]]:
        """Labels and what was timed, by place: figures of two machines are not compared."""
        found: dict[str, list[tuple[str, Timing]]] = {}
        for entry in self.entries:
            for timing in entry.subject.timings:
                if timing.latency.value is not None:
                    found.setdefault(timing.key, []).append((entry.label, timing))
        return found


def grouped(subjects: Sequence[Subject]) -> list[Group]:
    """The subjects by what they can be compared in, in the order in which they were named."""
    known = {s.model: s.weights for s in subjects if s.model and s.weights}
    groups: dict[tuple[str, str, str], list[Subject]] = {}
    for subject in subjects:
        model = subject.weights or known.get(subject.model, subject.model)
        groups.setdefault((subject.task, model, subject.data), []).append(subject)
    first = next(iter(groups), None)
    return [_group(members, _apart(key, first)) for key, members in groups.items()]


def _group(subjects: Sequence[Subject], apart: str) -> Group:
    labels, best = _labels(subjects), _fronts(subjects)
    entries = [Entry(label, s, b) for label, s, b in zip(labels, subjects, best, strict=True)]
    return Group(entries, list(differences(labels, subjects)), apart)


def _apart(key: tuple[str, str, str], first: tuple[str, str, str] | None) -> str:
    if first is None or key == first:
        return ""
    names = ("task", "model", "evaluation images")
    other = [name for name, ours, theirs in zip(names, key, first, strict=True) if ours != theirs]
    listed = " and ".join(filter(None, [", ".join(other[:-1]), other[-1]]))
    return f"other {listed}"


def _labels(subjects: Sequence[Subject]) -> list[str]:
    """The names of the recipes; of several with the same, their paths. Each has one of its own."""
    count = Counter(subject.name for subject in subjects)
    told = [s.name if count[s.name] == 1 else _path(s.path) for s in subjects]
    again = Counter(told)
    whole = [
        each if again[each] == 1 else shown(s.path) for each, s in zip(told, subjects, strict=True)
    ]
    seen = Counter[str]()
    for number, each in enumerate(whole):
        seen[each] += 1
        whole[number] = each if seen[each] == 1 else f"{each} ({seen[each]})"
    return whole


def _path(path: Path) -> str:
    return shown(path.parent if path.name == "report.json" else path)


def _fronts(subjects: Sequence[Subject]) -> list[bool | None]:
    """Whether each is on the front of its backend: one app could ship any of its artifacts."""
    found: list[bool | None] = [None] * len(subjects)
    for members in _rivals(subjects):
        points = [_point(subjects[index]) for index in members]
        if len({subjects[index].timings[0].key for index in members}) > 1:
            points = [(size, drop, None) for size, drop, _ in points]  # timed on different machines
        front = pareto_front(points, _LEAST)
        for position, index in enumerate(members):
            found[index] = position in front
    return found


def _rivals(subjects: Sequence[Subject]) -> Iterator[list[int]]:
    backends = dict.fromkeys(subject.backend for subject in subjects)
    for backend in backends:
        members = [index for index, subject in enumerate(subjects) if subject.backend == backend]
        if len(members) > 1:
            yield members


def _point(subject: Subject) -> tuple[float, float | None, float | None]:
    """Size, loss (of fidelity where there are no labels) and latency ratio."""
    drop, fidelity = subject.drop.value, subject.fidelity.value
    if drop is None and fidelity is not None:
        drop = 1 - fidelity
    return subject.megabytes, drop, subject.ratio.value
