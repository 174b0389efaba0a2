"""The report: one dictionary that becomes `report.json`, the table on the terminal, and the page."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yolodeploy
from yolodeploy.checks import Check
from yolodeploy.console import WIDTH
from yolodeploy.plan import Plan
from yolodeploy.store import Meta, Stored

_LABEL = 14


def make_report(
    plan: Plan,
    artifact: Stored,
    evidence: Mapping[str, Any],
    checks: Sequence[Check],
    metas: Mapping[str, Meta | None],
    before: Collection[str],
) -> dict[str, Any]:
    """Everything that is known of a build; `before` are the ids that were in the store at its start."""
    shown = {
        key: value for key, value in evidence.items() if key not in ("interface", "artifact_digest")
    }
    device = plan.target.device
    return {
        "name": plan.file.recipe.name,
        "target": {"device": device.name, "title": device.title, "os": plan.target.os_version},
        "backend": plan.backend.NAME,
        "steps": [_step(planned.step.name, planned.id, metas, before) for planned in plan.steps],
        "artifact": {
            "format": artifact.meta.format,
            "digest": artifact.meta.digest,
            "bytes": artifact.meta.bytes,
        },
        "evidence": shown,
        "interface": evidence["interface"],
        "checks": [{**asdict(check)} for check in checks],
        "versions": {"yolodeploy": yolodeploy.__version__, **plan.versions()},
    }


def _step(
    name: str, id_: str, metas: Mapping[str, Meta | None], before: Collection[str]
) -> dict[str, Any]:
    meta = metas.get(id_)
    step: dict[str, Any] = {"name": name, "id": id_, "seconds": None, "cached": id_ in before}
    if meta:
        return {**step, "seconds": meta.seconds}
    return {**step, "reason": "its result is no longer in the store"}


def table(report: Mapping[str, Any]) -> str:
    """The report for a terminal of 80 columns."""
    target, evidence = report["target"], report["evidence"]
    system = f", OS {target['os']}" if target["os"] else ""
    rows = [("target", f"{target['title']} ({target['device']}{system}), {report['backend']}")]
    rows += [("steps", ", ".join(_step_text(step) for step in report["steps"]))]
    rows += [
        ("size", f"{report['artifact']['bytes'] / 1e6:.2f} MB, {report['artifact']['format']}")
    ]
    rows += list(_accuracy_rows(evidence))
    rows += list(_runtime_rows(evidence))
    rows += [(*_check_row(check),) for check in report["checks"]]
    return "\n".join([report["name"], *(_row(label, text) for label, text in rows)])


def _step_text(step: Mapping[str, Any]) -> str:
    seconds = "?" if step["seconds"] is None else f"{step['seconds']:.1f} s"
    return f"{step['name']} {seconds}{' (cached)' if step['cached'] else ''}"


def _accuracy_rows(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, label in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        row = evidence[key]
        if row["source"] is None:
            yield label, f"not measured: {row['reason']}"
        else:
            yield (
                label,
                f"{row['artifact']:.4f}, source {row['source']:.4f}, drop {_drop(row)} ({evidence['images']} images)",
            )
    worst = worst_classes(evidence["per_class"], 3)
    if worst:
        yield "worst classes", ", ".join(f"{row['name']} {_drop(row)}" for row in worst)
    total, boxes, scores = (
        evidence["output_diff"],
        *map(evidence["output_diff"].get, ("boxes_px", "scores")),
    )
    text = f"max {total['max']:.4g}, mean {total['mean']:.2g}"
    yield "output diff", f"{text} (boxes max {boxes['max']:.4g} px, scores max {scores['max']:.2g})"


def _drop(row: Mapping[str, Any]) -> str:
    return f"{round(row['drop'], 4) + 0.0:+.4f}"  # adding 0.0 turns -0.0 into 0.0


def worst_classes(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The classes that lost most, of those that lost anything that four digits show."""
    lost = [row for row in rows if row["drop"] is not None and round(row["drop"], 4) > 0]
    return sorted(lost, key=lambda row: -row["drop"])[:count]


def _runtime_rows(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    latency, runtime = evidence["latency_ms"], evidence["runtime"]
    where = f"{evidence['threads']} threads, {evidence['cpu']}, {evidence['rounds']} rounds"
    text = f"median {latency['median']:.1f} ms, p90 {latency['p90']:.1f} ms"
    ratio = evidence["latency_ratio"]
    compared = "" if ratio is None else f", {ratio:.2f}x the fp32 export"
    yield "latency", f"{text}{compared} ({where})"
    yield "peak memory", f"{evidence['peak_memory_mb']:.0f} MB, whole process"
    yield "measured in", f"{runtime['name']} {runtime['version']} on {runtime['device']}"
    if runtime["note"]:
        yield "", runtime["note"]


def _check_row(check: Mapping[str, Any]) -> tuple[str, str]:
    value = "not measured" if check["value"] is None else f"{check['value']:.4g}"
    return (
        "check",
        f"{'ok    ' if check['ok'] else 'FAILED'} {check['name']} {value} (limit {check['limit']:.4g})",
    )


def _row(label: str, text: str) -> str:
    indent = " " * (_LABEL + 4)
    body = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"  {label:<{_LABEL}}  {body.lstrip()}"
