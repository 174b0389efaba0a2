"""report.json and plan.json as a `Subject`.

They may come from strangers or earlier releases: what is there is checked before it is used, and what is not there is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Place
from yolodeploy.comparison.subject import Figure, Interval, Subject, Timing
from yolodeploy.tasks import Key

if TYPE_CHECKING:
    from yolodeploy.bundle import EvidenceSet

Table = Mapping[str, Any]
_MOST = 1e15  # of a figure: charts and columns have no room for more


def described(
    path: Path,
    report: Table,
    plan: Table,
    sets: Sequence[EvidenceSet] = (),
    pictures: Path | None = None,
) -> Subject:
    """The parts of a report that are compared; raises ValueError with the reason for one that is none."""
    target, conditions, model = (
        _table(report.get(key)) for key in ("target", "conditions", "model")
    )
    data = _table(_table(report.get("data")).get("evaluation"))
    scores, rows = report.get("scores") or [str(Key.MAP50_95)], _rows(report)
    score = _text(scores[0] if isinstance(scores, list) else scores, "scores")
    primary, images = rows.get(score, {}), conditions.get("images")
    reason = _text(primary.get("reason") or "", "reason")
    return Subject(
        path=path,
        name=_text(report.get("name"), "name"),
        device=_text(target.get("device"), "target"),
        title=_text(target.get("title") or target.get("device"), "target"),
        backend=_text(report.get("backend"), "backend"),
        task=_text(model.get("task") or "detect", "task"),
        score=score,
        bytes=_count(_table(report.get("artifact")).get("bytes"), "size"),
        images=None if images is None else _count(images, "number of images"),
        source=_number(primary.get("source")),
        artifact=_number(primary.get("artifact")),
        drop=Figure(_number(primary.get("loss")), _interval(primary), reason),
        fidelity=_figure(rows.get(Key.FIDELITY)),
        timings=_once([_timing(conditions, rows), *_elsewhere(sets)]),
        checks={_text(each.get("name"), "check"): each.get("ok") is True for each in _tables(report.get("checks") or [])},
        model=_text(_table(report.get("evidence")).get("source_digest") or "", "source model"),
        weights=_text(plan.get("weights") or "", "weights"),
        data=_text(data.get("digest") or "", "data"),
        recipe=_table(plan.get("recipe")),
        versions=_table(plan.get("versions")),
        pictures=pictures,
        missing=tuple(_missing(plan, pictures)),
    )  # fmt: skip


def _missing(plan: Table, pictures: Path | None) -> Iterator[str]:
    if not plan:
        yield "a report alone says neither its recipe nor its pictures; name the bundle for these"
    elif pictures is None:
        yield "no pictures: built with --no-images, or by an earlier release"


def _rows(report: Table) -> dict[str, Table]:
    """The measures of everything (not of a class or size), by key."""
    if "measures" not in report:
        raise ValueError("it has no `measures`")
    return {str(row.get("key")): row for row in _tables(report["measures"]) if not row.get("group")}


def _timing(conditions: Table, rows: Mapping[str, Table]) -> Timing:
    latency, ratio = _figure(rows.get(Key.LATENCY)), _figure(rows.get(Key.LATENCY_RATIO))
    if _table(conditions.get("runtime")).get("timing") is False:
        latency = Figure(reason=ratio.reason)
    place = _table(conditions.get("place"))
    names = set(Place.__dataclass_fields__)
    if not names <= place.keys():  # before places were told
        cpu = _text(conditions.get("cpu") or "an unknown machine", "processor")
        return Timing(cpu, cpu, on_device=False, latency=latency, ratio=ratio)
    return _at(Place(**{name: place[name] for name in names}), latency, ratio)


def _at(place: Place, latency: Figure, ratio: Figure) -> Timing:
    machine, host = _text(place.board or place.cpu, "machine"), _text(place.host, "host")
    key = "|".join([host, machine, _text(place.arch, "machine"), str(place.processors)])
    named = f"{host} ({machine})" if host else machine
    return Timing(key, named, on_device=place.on_device is True, latency=latency, ratio=ratio)


def _once(timings: Sequence[Timing]) -> tuple[Timing, ...]:
    """The first of every machine."""
    first: dict[str, Timing] = {}
    for timing in timings:
        first.setdefault(timing.key, timing)
    return tuple(first.values())


def _elsewhere(sets: Sequence[EvidenceSet]) -> Iterator[Timing]:
    """What was timed elsewhere, or later; with the recipe first."""
    for each in sorted(sets, key=lambda found: found.plan is None):
        rows = {m.key: m for m in each.measures if not m.group}
        latency, ratio = rows.get(Key.LATENCY), rows.get(Key.LATENCY_RATIO)
        if latency and latency.artifact is not None:
            told = Figure(ratio.artifact, ratio.interval, ratio.reason) if ratio else Figure()
            yield _at(each.place, Figure(latency.artifact, latency.interval), told)


def _figure(row: Table | None) -> Figure:
    if row is None:
        return Figure(reason="the report does not have it")
    reason = _text(row.get("reason") or "", "reason")
    return Figure(_number(row.get("artifact")), _interval(row), reason)


def _interval(row: Table) -> Interval | None:
    given = row.get("interval")
    if not given:
        return None
    if not isinstance(given, list) or len(given) != 2:
        raise ValueError("one of its intervals does not have two ends")
    low, high = map(_number, given)
    return None if low is None or high is None else (low, high)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("one of its figures is not a number")  # noqa: TRY004 - the file's text is wrong
    if not abs(value) <= _MOST:
        raise ValueError("one of its figures is out of range")
    return float(value)


def _count(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError(f"its {what} is missing or no whole number")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its `{what}` is missing or no text")  # noqa: TRY004 - the file's text is wrong
    return value


def _table(value: object) -> Table:
    return value if isinstance(value, dict) else {}


def _tables(value: object) -> list[Table]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError("its lists of measures or checks are damaged")
    return value
