"""The breakdown by step: parameters, FLOPs, size, accuracy and latency after every step of a recipe.

The source model and the artifact are measured anyway (`evidence.py`), the results in between by
`results.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from yolodeploy.execution import Runner
from yolodeploy.hosts import Host
from yolodeploy.measure.evidence import Evidence
from yolodeploy.measure.results import Stage, in_detail, obtain_stage, timed_step
from yolodeploy.measure.source import obtain_source
from yolodeploy.planning import Plan, PlannedStep
from yolodeploy.tasks import Key, Measure, one

BLIND = "the source model finds none of the labelled objects: wrong weights, labels or imgsz?"
_FIRST = "it is the model that the others are compared with"
_SKIPPED = "measured only if a step before `export` changes the model, or `step_drop` is checked"

Figure = tuple[Any, str]  # a number, or None and the reason


@dataclass(frozen=True)
class Row:
    """A step's result. Figures that were not measured are None; `reasons` says why, by field.

    `at` is file and line of the step, `bytes` the size of the result's files. `score` is the primary measure of the task
    (mAP50-95 of a detector), `drop` its loss against the step before, `fidelity` how well it finds what the source model finds. `latency_ms`
    is the median per image in the target's runtime, before the export that of the plain float export; `speedup` is
    relative to the first row's. `host` is where the accuracy was measured ("": this machine).
    """

    step: str
    at: str
    format: str
    runtime: str
    bytes: int | None
    parameters: int | None
    flops: int | None
    score: float | None
    drop: float | None
    fidelity: float | None
    latency_ms: float | None
    speedup: float | None
    reasons: Mapping[str, str]
    host: str = ""


def obtain_breakdown(runner: Runner, host: Host, evidence: Evidence) -> list[Row]:
    """A row for every step of the plan; measures what the store lacks."""
    rows: list[Row] = []
    for index, stage in enumerate(_stages(runner, host, evidence)):
        rows.append(_row(runner.plan, index, stage, evidence, rows))
    return rows


def _stages(runner: Runner, host: Host, evidence: Evidence) -> Iterator[Stage]:
    """What was measured of every step's result, in order."""
    plan = runner.plan
    source = cache(lambda: obtain_source(runner).found(runner.info()))
    accuracy = evidence.primary
    fidelity = Measure(Key.FIDELITY, None, None, reason=_FIRST)
    yield Stage(evidence.source, (replace(accuracy, artifact=accuracy.source), fidelity))
    for index in range(1, len(plan.steps) - 1):
        if in_detail(plan):
            yield obtain_stage(runner, host, index, source)
        else:
            keys = (accuracy.key, Key.FIDELITY)
            yield Stage(None, tuple(Measure(key, None, None, reason=_SKIPPED) for key in keys))
    yield Stage(evidence.artifact, evidence.measures)


def _row(plan: Plan, index: int, stage: Stage, evidence: Evidence, rows: Sequence[Row]) -> Row:
    planned = plan.steps[index]
    accuracy = stage.measures[0]  # the primary measure
    figures: dict[str, Figure] = {
        "bytes": (stage.facts.bytes, "") if stage.facts else (None, _SKIPPED),
        **_counts(planned, stage, rows),
        "score": _figure(accuracy),
        "drop": _drop(accuracy, rows),
        "fidelity": _figure(one(stage.measures, Key.FIDELITY)),
        **_latency(plan, index, evidence),
    }
    return Row(
        step=planned.step.name,
        at=f"{planned.at.file.name}:{planned.at.line}",
        format=planned.step.produces,
        runtime=stage.facts.runtime.name if stage.facts else "",
        **{name: value for name, (value, _) in figures.items()},
        reasons={name: reason for name, (value, reason) in figures.items() if value is None},
        host=stage.facts.runtime.host if stage.facts else "",
    )


def _figure(measure: Measure) -> Figure:
    value = measure.artifact
    return (None, measure.reason) if value is None else (round(value, 6), "")


def _counts(planned: PlannedStep, stage: Stage, rows: Sequence[Row]) -> dict[str, Figure]:
    """Parameters and FLOPs as the plugin counts them; the steps of a backend change neither."""
    if stage.facts and (counts := stage.facts.counts):
        return {"parameters": (counts.parameters, ""), "flops": (counts.flops, "")}
    reason = f"the {planned.backend.NAME} plugin does not count them"
    if not planned.backend.DEVICES:
        return {"parameters": (None, reason), "flops": (None, reason)}
    before = rows[-1]
    return {
        name: (getattr(before, name), before.reasons.get(name, reason))
        for name in ("parameters", "flops")
    }


def _drop(accuracy: Measure, rows: Sequence[Row]) -> Figure:
    """The loss of the primary measure against the step before."""
    if not rows:
        return None, _FIRST
    now, before = accuracy.artifact, rows[-1].score
    if now is None or before is None:
        return None, rows[-1].reasons.get("score") or accuracy.reason
    return (None, BLIND) if rows[0].score == 0 else (round(before - now, 6), "")


def _latency(plan: Plan, index: int, evidence: Evidence) -> dict[str, Figure]:
    """The median latency for the step, and the speedup over the first row's, from pairs of bursts."""
    ratio, speedup = one(evidence.measures, Key.LATENCY_RATIO), one(evidence.measures, Key.SPEEDUP)
    timing, first, timed = evidence.timing, plan.floats.get(0), timed_step(plan, index)
    if ratio.artifact is None or timing is None:
        return {"latency_ms": (None, ratio.reason), "speedup": (None, ratio.reason)}
    latency, against = timing.others_ms.get(timed.id) if timed else None, 1.0
    if index == len(plan.steps) - 1:
        latency = timing.image_ms
    elif timed and timed.id in timing.ratios:
        against = timing.ratios[timed.id].value
    if latency is None:
        export = plan.steps[plan.export].step.name
        reason = _SKIPPED if timed else f"`{export}` does not take its format"
        return {"latency_ms": (None, reason), "speedup": (None, reason)}
    if not first or first.id not in timing.ratios:
        return {"latency_ms": (latency, ""), "speedup": (None, speedup.reason)}
    faster = round(against / timing.ratios[first.id].value, 4)
    return {"latency_ms": (latency, ""), "speedup": (faster, "")}
