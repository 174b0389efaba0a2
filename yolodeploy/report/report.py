"""The report: one dictionary that becomes `report.json`, the table on the terminal, and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yolodeploy
from yolodeploy.backend import Place
from yolodeploy.execution import Runner
from yolodeploy.measure import Check, Curves, Evidence, Row, count_of_threads, latency_samples
from yolodeploy.planning import Plan, PlannedStep, calibration_count, named_target
from yolodeploy.tasks import Key, Measure, grouped, one, plain_measures, six_digits


def make_report(
    runner: Runner, evidence: Evidence, breakdown: Sequence[Row], checks: Sequence[Check]
) -> dict[str, Any]:
    """Everything that is known about a deployment."""
    plan, artifact = runner.plan, runner.final().meta
    device = plan.target.device
    return {
        "name": plan.file.recipe.name,
        "target": {**named_target(plan.target), "title": device.title},
        "backend": plan.backend.NAME,
        "imgsz": plan.imgsz.plain,
        "model": _model(plan, runner),
        "scores": list(evidence.scores),
        "notes": list(plan.notes),
        "steps": [_step(planned, runner) for planned in plan.steps],
        "artifact": {"format": artifact.format, "digest": artifact.digest, "bytes": artifact.bytes},
        "data": {name: _view(plan, name) for name in plan.views},
        "measures": plain_measures(evidence.measures),
        "conditions": {"images": evidence.images, **_conditions(evidence)},
        "evidence": _evidence_block(evidence),
        **_curves(evidence.curves),
        **_latencies(plan, evidence),
        **_bytes_by_layer(plan, evidence, artifact.bytes),
        "chain": [asdict(row) for row in breakdown],
        "interface": asdict(evidence.interface),
        "checks": [{**asdict(check), "ok": check.ok} for check in checks],
        "versions": {"yolodeploy": yolodeploy.__version__, **plan.versions()},
    }


def _model(plan: Plan, runner: Runner) -> dict[str, Any]:
    """Its task; which head runs, of which; and the names of the classes, of how many."""
    info = runner.info()
    whole = plan.facts or info
    return {
        "task": info.task,
        "head": info.head,
        "heads": list(whole.heads),
        "classes": list(info.names),
        "of": len(whole.names),
    }


def _step(planned: PlannedStep, runner: Runner) -> dict[str, Any]:
    meta = runner.store.meta(planned.id)
    return {
        "name": planned.step.name,
        "id": planned.id,
        "seconds": meta.seconds if meta else None,
        "cached": planned.id in runner.cached,
        **({} if meta else {"reason": "its result is no longer in the store"}),
    }


def _view(plan: Plan, name: str) -> dict[str, Any]:
    """A data view: how many images of which split, their digest, and the steps that read it.

    Of the evaluation also how many have labels, and what was left out.
    """
    view = plan.views[name]
    total = len(view)
    readers = [planned for planned in plan.steps if name in planned.data]
    return {
        **(view.counts.plain() if name == "evaluation" else {}),
        "images": total,
        "split": getattr(plan.file.recipe.data, name).split,
        **({"part": part} if (part := getattr(plan.file.recipe.data, name).part) else {}),
        "digest": plan.view_digests[name],
        "read_by": {p.step.name: calibration_count(p.params) or total for p in readers},
    }


def _curves(curves: Curves) -> dict[str, Any]:
    if curves.reason:
        return {"curves_reason": curves.reason}
    models = (("source", curves.source), ("artifact", curves.artifact))
    return {
        "curves": {
            model: {name: dict(curve) for name, curve in found.items()} for model, found in models
        }
    }


def _latencies(plan: Plan, evidence: Evidence) -> dict[str, Any]:
    """Single runs, unless nothing was timed or the runtime's speed says nothing about the device."""
    found = latency_samples(plan, evidence.timing) if evidence.artifact.runtime.timing else {}
    return {"latencies": found} if found else {}


def _bytes_by_layer(plan: Plan, evidence: Evidence, whole: int) -> dict[str, Any]:
    """What each layer takes, and last, without a name, what is left of all files; or why nobody can say."""
    rows = [asdict(row) for row in evidence.layer_bytes]
    if not rows:
        return {"bytes_by_layer_reason": f"{plan.backend.NAME} does not say where the bytes are"}
    left = max(0, whole - sum(row["bytes"] for row in rows))
    rest = {"layer": "", "part": "other", "form": "other", "bytes": left}
    return {"bytes_by_layer": [*rows, rest]}


def _evidence_block(evidence: Evidence) -> dict[str, Any]:
    """The block `evidence`: the measures under the keys that docs/recipes.md lists."""
    measures = evidence.measures
    block = {
        "images": evidence.images,
        **{str(key): _compared(one(measures, key)) for key in evidence.scores},
        "per_class": [
            {"name": m.group, "objects": m.count, **_compared(m)}
            for m in grouped(measures, Key.CLASS_AP)
        ],
        "by_size": [{"name": m.group, **_compared(m)} for m in grouped(measures, Key.SIZE_AP)],
        "fidelity": _fidelity(one(measures, Key.FIDELITY)),
        **{str(m.key): six_digits(m.artifact) for m in measures if m.key == Key.DIVERGENCE},
        "output_diff": {
            "images": one(measures, Key.OUTPUT_DIFF).count,
            **_difference(measures, ""),
            **{m.group: _difference(measures, m.group) for m in grouped(measures, Key.OUTPUT_DIFF)},
        },
        "latency_ms": {
            "median": one(measures, Key.LATENCY).artifact,
            "p90": one(measures, Key.LATENCY_P90).artifact,
        },
        "reference_ms": {"median": one(measures, Key.LATENCY).source},
        "peak_memory_mb": one(measures, Key.PEAK_MEMORY).artifact,
        **dict(_with_reason(one(measures, Key.LATENCY_RATIO))),
        **dict(_with_reason(one(measures, Key.SPEEDUP))),
        **_conditions(evidence),
        "source_runtime": asdict(evidence.source.runtime),
        "source_digest": evidence.source.digest,
    }
    sorted_: dict[str, Any] = json.loads(json.dumps(block, sort_keys=True))
    return sorted_


def _conditions(evidence: Evidence) -> dict[str, Any]:
    timing, runtime = evidence.timing, asdict(evidence.artifact.runtime)
    if timing is None:
        nothing = {"runs": 0, "threads": runtime["threads"], "cpu": runtime["device"]}
        batch = {"waited": None, "batch": evidence.interface.batch}
        return {**nothing, **batch, "runtime": runtime, "place": asdict(evidence.place)}
    timed: dict[str, Any] = {
        name: getattr(timing, name) for name in ("runs", "threads", "cpu", "waited", "batch")
    }
    if served := timing.throughput:
        names = "batch", "requests", "threads", "waited"
        timed["throughput"] = {name: getattr(served, name) for name in names}
    if timing.climate:
        timed["climate"] = dict(timing.climate)
    return {**timed, "runtime": runtime, "place": asdict(evidence.place)}


def where_timed(conditions: Mapping[str, Any]) -> str:
    """On what latencies were measured, in words."""
    host, waited = conditions["place"]["host"], conditions["waited"]
    processor = f"{conditions['cpu']} of {host}" if host else conditions["cpu"]
    busy = f", waited {waited:.0%} of the time for a processor" if waited else ""
    threads = count_of_threads(conditions["threads"])
    return f"{threads}, {processor}, {conditions['runs']} runs{busy}"


def place_words(conditions: Mapping[str, Any]) -> str:
    """Where the artifact was measured, in words, as in "measured on ..."."""
    return Place(**conditions["place"]).words()


def climate_words(conditions: Mapping[str, Any]) -> str:
    """What slowed the machine down while latencies were measured, as far as it says; "" if it says nothing."""
    found = conditions.get("climate") or {}
    before, after = found.get("before") or {}, found.get("after") or {}
    parts = []
    if "celsius" in before and "celsius" in after:
        parts.append(f"{before['celsius']} °C before, {after['celsius']} °C after")
    if governors := after.get("governors") or before.get("governors"):
        parts.append(f"governor {', '.join(map(str, governors))}")
    if "thermal_status" in after:
        parts.append(f"thermal status {after['thermal_status']}")
    if "battery_percent" in after:
        state = ", ".join(map(str, filter(None, (after.get("battery"), _degrees(after)))))
        parts.append(f"battery {after['battery_percent']} %{state and f' ({state})'}")
    return "; ".join(parts)


def details_of(target: Mapping[str, Any]) -> str:
    """A target's device, and the OS version and the interface to its GPU where the recipe's matter."""
    system = f", OS {target['os']}" if target["os"] else ""
    gpu = f", GPU through {target['gpu']}" if target.get("gpu") else ""
    return f"{target['device']}{system}{gpu}"


def _degrees(found: Mapping[str, Any]) -> str:
    return f"{found['battery_celsius']} °C" if "battery_celsius" in found else ""


def per_batch(batch: int) -> str:
    """What a latency is of, if not of one image."""
    return "" if batch == 1 else f" per batch of {batch}"


def requests_in_flight(conditions: Mapping[str, Any]) -> str:
    """How images per second were measured, in words."""
    served = conditions["throughput"]
    count, batch, waited = served["requests"], served["batch"], served["waited"]
    of_images = f" of {batch} images" if batch > 1 else ""
    several = f"{count} request{'s' * (count != 1)}{of_images} in flight"
    busy = f", waited {waited:.0%} of the time for a processor" if waited else ""
    return f"{several}, {count_of_threads(served['threads'])}{busy}"


def _compared(measure: Measure) -> dict[str, Any]:
    source, artifact = six_digits(measure.source), six_digits(measure.artifact)
    row: dict[str, Any] = {"source": source, "artifact": artifact, "drop": measure.loss}
    if measure.reason:
        row["reason"] = measure.reason
    if measure.interval:
        row[f"drop_{100 * measure.confidence:.4g}"] = list(measure.interval)
    return row


def _fidelity(measure: Measure) -> dict[str, Any]:
    if measure.artifact is None:
        return {"value": None, "reason": measure.reason}
    return {"value": six_digits(measure.artifact), "objects": measure.count}


def _difference(measures: tuple[Measure, ...], group: str) -> dict[str, float | None]:
    return {
        "max": one(measures, Key.OUTPUT_DIFF, group).artifact,
        "mean": one(measures, Key.OUTPUT_DIFF_MEAN, group).artifact,
    }


def _with_reason(measure: Measure) -> Iterator[tuple[str, Any]]:
    yield measure.key, measure.artifact
    if measure.interval:
        yield f"{measure.key}_interval", list(measure.interval)
    if measure.artifact is None:
        yield f"{measure.key}_reason", measure.reason


def forms_of_layers(layers: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The forms of the convolutions with their names, the most frequent form first."""
    forms: dict[str, list[str]] = {}
    for name, form in layers.items():
        forms.setdefault(form, []).append(name)
    return sorted(forms.items(), key=lambda item: -len(item[1]))


def signed(figure: float | None) -> str:
    """Four digits with a sign; adding 0.0 turns -0.0 into 0.0."""
    return f"{round(figure or 0.0, 4) + 0.0:+.4f}"
