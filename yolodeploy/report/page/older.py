"""Reports of other releases: what they lack is filled with what says that it is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from yolodeploy.tasks import Key, Measure

OLDER = "the report does not say: an older release wrote it"
_UNKNOWN = "not known"
_PLACE = {
    **dict.fromkeys(("host", "system", "arch", "board", "runtime", "version"), ""),
    "cpu": "this machine, which the report does not describe",
    "processors": 1,
    "on_device": False,
    "reason": OLDER,
}
_RUNTIME = {"name": _UNKNOWN, "version": "", "device": _UNKNOWN, "note": ""}
_DEFAULTS: Mapping[str, Any] = {
    "name": "a report",
    "target": {"device": _UNKNOWN, "title": "a device that the report does not name", "os": None},
    "backend": _UNKNOWN,
    "model": {"task": "detect", "classes": []},
    "scores": [Key.MAP50_95, Key.MAP50],
    "notes": [],
    "artifact": {"format": "format not known", "digest": _UNKNOWN},
    "conditions": {"images": "?", "runs": "?", "threads": 1, "cpu": _UNKNOWN, "waited": None,
                   "batch": 1, "runtime": _RUNTIME, "place": _PLACE},
    "interface": {"layers": {}},
    "versions": {},
    "data": {},
}  # fmt: skip
_ROWS: Mapping[str, Mapping[str, Any]] = {
    "steps": {"name": _UNKNOWN, "id": "", "seconds": None, "cached": False},
    "checks": {"name": _UNKNOWN, "value": None, "limit": None, "least": False, "note": "",
               "interval": None, "doubt": ""},
    "chain": {"step": _UNKNOWN, "runtime": "", "host": "", "reasons": {}, **dict.fromkeys(
        ("bytes", "parameters", "flops", "score", "drop", "fidelity", "latency_ms", "speedup"))},
}  # fmt: skip
_VIEW = {"images": "?", "split": "", "digest": "", "read_by": {}, "skipped": {}}
_COUNTS = {"background": 0, "objects": "?"}
_NEEDED = (Key.FIDELITY, Key.OUTPUT_DIFF, Key.OUTPUT_DIFF_MEAN, Key.LATENCY, Key.LATENCY_P90,
           Key.PEAK_MEMORY, Key.LATENCY_RATIO, Key.SPEEDUP, Key.THROUGHPUT, Key.THROUGHPUT_RATIO)  # fmt: skip


def completed(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with whatever this release needs; raises KeyError or TypeError if it is no report at all."""
    found = _filled(_DEFAULTS, report)
    for name, row in _ROWS.items():
        found[name] = [_filled(row, each) for each in report.get(name, ())]
    for check in found["checks"]:
        check.setdefault("verdict", "ok" if check.get("ok") else "FAILED")
    for row in found["chain"]:
        row["score"] = row.get("map50_95") if row["score"] is None else row["score"]
    found["data"] = {name: _view(view) for name, view in found["data"].items()}
    found["artifact"]["bytes"] = int(report["artifact"]["bytes"])
    found["scores"] = [Key(score) for score in found["scores"]]
    return found


def _filled(defaults: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries with what they lack; an empty dictionary as a default stands for whatever is there."""
    filled = {**defaults, **value}
    for name, default in defaults.items():
        if isinstance(default, Mapping) and default:
            filled[name] = _filled(default, filled[name])
    return filled


def _view(view: Mapping[str, Any]) -> dict[str, Any]:
    return _filled({**_VIEW, **(_COUNTS if "labelled" in view else {})}, view)


def completed_measures(report: Mapping[str, Any]) -> tuple[Measure, ...]:
    """The measures that this release knows, and one with a reason in the place of each that a page needs."""
    found = list(_known(report.get("measures", ())))
    there = {measure.key for measure in found if not measure.group}
    wanted = [key for key in (*report["scores"], *_NEEDED) if key not in there]
    return (*found, *(Measure(key, None, None, reason=OLDER) for key in wanted))


def _known(rows: Iterable[Mapping[str, Any]]) -> Iterator[Measure]:
    """Measures whose key this release has; earlier and later releases have others."""
    names, keys = {field.name for field in fields(Measure)}, {str(key) for key in Key}
    for row in rows:
        if row["key"] in keys:
            values = {name: value for name, value in row.items() if name in names}
            interval = row.get("interval")
            values |= {"key": Key(row["key"]), "interval": tuple(interval) if interval else None}
            yield Measure(**values)
