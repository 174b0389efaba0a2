"""The report: one dictionary that becomes `report.json`, the table on the terminal, and the page."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yolodeploy
from yolodeploy import chaintable
from yolodeploy.chain import Row
from yolodeploy.checks import Check
from yolodeploy.console import WIDTH
from yolodeploy.objects import Meta, Stored
from yolodeploy.plan import Plan
from yolodeploy.views import calibration_count

_LABEL = 14
_ELSEWHERE = {"artifact_digest", "first", "interface", "last", "timed_ms"}  # in the report


def make_report(
    plan: Plan,
    artifact: Stored,
    evidence: Mapping[str, Any],
    chain: Sequence[Row],
    checks: Sequence[Check],
    metas: Mapping[str, Meta | None],
    before: Collection[str],
) -> dict[str, Any]:
    """Everything that is known of a build; `before` are the ids that were in the store at its start."""
    shown = {key: value for key, value in evidence.items() if key not in _ELSEWHERE}
    device = plan.target.device
    return {
        "name": plan.file.recipe.name,
        "target": {"device": device.name, "title": device.title, "os": plan.target.os_version},
        "backend": plan.backend.NAME,
        "imgsz": plan.file.recipe.model.imgsz,
        "steps": [_step(planned.step.name, planned.id, metas, before) for planned in plan.steps],
        "artifact": {
            "format": artifact.meta.format,
            "digest": artifact.meta.digest,
            "bytes": artifact.meta.bytes,
        },
        "data": {name: _view(plan, name) for name in plan.views},
        "evidence": shown,
        "chain": [asdict(row) for row in chain],
        "interface": evidence["interface"],
        "checks": [{**asdict(check)} for check in checks],
        "versions": {"yolodeploy": yolodeploy.__version__, **plan.versions()},
    }


def _view(plan: Plan, name: str) -> dict[str, Any]:
    """A data view: how many images of which split, the digest of them, and the steps that read it."""
    total = len(plan.views[name])
    readers = [p for p in plan.steps if name in p.step.needs(p.params)]
    return {
        "images": total,
        "split": getattr(plan.file.recipe.data, name).split,
        "digest": plan.view_digests[name],
        "read_by": {p.step.name: calibration_count(p.params) or total for p in readers},
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
    rows += list(_layer_rows(report["interface"]["layers"]))
    rows += list(_calibration_rows(report["data"]))
    rows += list(_accuracy_rows(evidence))
    in_detail = chaintable.is_worth_showing(report["chain"])
    rows += list(_runtime_rows(evidence, dense=in_detail))
    rows += [(*_check_row(check),) for check in report["checks"]]
    table_ = [report["name"], *(_row(label, text) for label, text in rows)]
    if in_detail:
        table_ += ["", *chaintable.lines(report["chain"], report["imgsz"])]
    return "\n".join(table_)


def _step_text(step: Mapping[str, Any]) -> str:
    seconds = "?" if step["seconds"] is None else f"{step['seconds']:.1f} s"
    return f"{step['name']} {seconds}{' (cached)' if step['cached'] else ''}"


def layer_counts(layers: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The forms of the convolutions with their names, the most frequent form first."""
    forms: dict[str, list[str]] = {}
    for name, form in layers.items():
        forms.setdefault(form, []).append(name)
    return sorted(forms.items(), key=lambda item: -len(item[1]))


def _layer_rows(layers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    counts = layer_counts(layers)
    if counts:
        yield "convolutions", ", ".join(f"{len(names)} {form}" for form, names in counts)


def _calibration_rows(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    view = data.get("calibration")
    if view and view["read_by"]:
        yield (
            "calibration",
            f"{view['images']} images of `{view['split']}`{_read(view)}, sha256 {view['digest'][:12]}",
        )


def _read(view: Mapping[str, Any]) -> str:
    fewer = [f"{step} {count}" for step, count in view["read_by"].items() if count < view["images"]]
    return f" (read by {', '.join(fewer)})" if fewer else ""


def _accuracy_rows(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, label in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        row = evidence[key]
        if row["source"] is None:
            yield label, f"not measured: {row['reason']}"
        else:
            text = f"{row['artifact']:.4f}, source {row['source']:.4f}, drop {_drop(row)}"
            yield label, f"{text} ({_interval(row)}{evidence['images']} images)"
    if sizes := [row for row in evidence["by_size"] if row["source"] is not None]:
        yield "by object size", ", ".join(f"{row['name']} {_drop(row)}" for row in sizes)
    if worst := worst_classes(evidence["per_class"], 5):
        yield "worst classes", ", ".join(f"{row['name']} {_drop(row)}" for row in worst)
    yield "fidelity", fidelity_text(evidence["fidelity"])
    yield "output diff", _difference_text(evidence["output_diff"])


def fidelity_text(row: Mapping[str, Any]) -> str:
    """Fidelity in words."""
    if row["value"] is None:
        return f"not measured: {row['reason']}"
    return f"{row['value']:.4f} to the source model's {row['objects']} detections"


def _interval(row: Mapping[str, Any]) -> str:
    if "drop_90" not in row:
        return ""
    low, high = row["drop_90"]
    return f"90 % interval {low:+.4f} to {high:+.4f}, "


def _difference_text(total: Mapping[str, Any]) -> str:
    boxes, scores = total["boxes_px"]["max"], total["scores"]["max"]
    text = f"max {total['max']:.4g}, mean {total['mean']:.2g}"
    return f"{text} (boxes max {boxes:.4g} px, scores max {scores:.2g})"


def _drop(row: Mapping[str, Any]) -> str:
    return f"{round(row['drop'], 4) + 0.0:+.4f}"  # adding 0.0 turns -0.0 into 0.0


def worst_classes(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """The classes that lost most, of those that lost anything that four digits show."""
    lost = [row for row in rows if row["drop"] is not None and round(row["drop"], 4) > 0]
    return sorted(lost, key=lambda row: -row["drop"])[:count]


def _runtime_rows(evidence: Mapping[str, Any], *, dense: bool) -> Iterator[tuple[str, str]]:
    latency, runtime = evidence["latency_ms"], evidence["runtime"]
    where = f"{evidence['threads']} threads, {evidence['cpu']}, {evidence['runs']} runs"
    text = f"median {latency['median']:.1f} ms, p90 {latency['p90']:.1f} ms"
    ratio, speedup = evidence["latency_ratio"], evidence["speedup"]
    compared = "" if ratio is None else f", {ratio:.2f}x the fp32 export"
    if dense and speedup is not None:
        compared += f" and {speedup:.2f} times as fast as that of the model as loaded"
    yield "latency", f"{text}{compared} ({where})"
    yield "peak memory", f"{evidence['peak_memory_mb']:.0f} MB, whole process"
    yield "measured in", f"{runtime['name']} {runtime['version']} on {runtime['device']}"
    if runtime["note"]:
        yield "", runtime["note"]


def _check_row(check: Mapping[str, Any]) -> tuple[str, str]:
    value = "not measured" if check["value"] is None else f"{check['value']:.4g}"
    verdict = "ok    " if check["ok"] else "FAILED"
    limit = f"{'at least' if check['least'] else 'limit'} {check['limit']:.4g}"
    where = f", {check['note']}" if check["note"] else ""
    return "check", f"{verdict} {check['name']} {value} ({limit}{where})"


def _row(label: str, text: str) -> str:
    indent = " " * (_LABEL + 4)
    body = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"  {label:<{_LABEL}}  {body.lstrip()}"
