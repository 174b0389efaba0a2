"""The table of the chain: what every step bought and cost.

Parameters, FLOPs, size, accuracy and latency after each step. The first model and the artifact are
measured anyway (`evidence.py`), the results in between by `stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.checks import BLIND
from yolodeploy.counts import Counts
from yolodeploy.plan import Plan, PlannedStep
from yolodeploy.run import Runner
from yolodeploy.stages import Stage, in_detail, timed_step

_FIRST = "it is the model that the others are compared with"
_SKIPPED = "measured only if a step before `export` changes the model, or `step_drop` is checked"

Figure = tuple[Any, str]  # a number, or None and why


@dataclass(frozen=True)
class Row:
    """A step's result. What is None was not measured; `reasons` says why, by field.

    `at` is file and line of the step, `bytes` the size of the result's files. `drop` is the loss of
    mAP50-95 against the step before, `fidelity` the AP50-95 of the detections against the first
    model's. `latency_ms` is the median in the target's runtime, before the export that of the
    model's plain float export; `speedup` is how many times as fast as the first row's that is.
    """

    step: str
    at: str
    format: str
    runtime: str
    bytes: int | None
    parameters: int | None
    flops: int | None
    map50_95: float | None
    drop: float | None
    fidelity: float | None
    latency_ms: float | None
    speedup: float | None
    reasons: Mapping[str, str]


def obtain_chain(runner: Runner, evidence: Mapping[str, Any], folder: Path) -> list[Row]:
    """A row for every step of the plan; `folder` is that of the evidence. Measures what is not kept."""
    plan = runner.plan
    between = range(1, len(plan.steps) - 1)
    if in_detail(plan):
        measured = [Stage(runner, index, folder).obtain() for index in between]
    else:
        measured = [_unmeasured() for _ in between]
    rows: list[Row] = []
    for index, stage in enumerate([_first(evidence), *measured, _last(evidence)]):
        rows.append(_row(plan, index, stage, evidence, rows))
    return rows


def _first(evidence: Mapping[str, Any]) -> dict[str, Any]:
    row = evidence["map50_95"]
    return {
        **evidence["first"],
        "runtime": evidence["source_runtime"]["name"],
        "map50_95": {**row, "value": row["source"]},
        "fidelity": {"value": None, "reason": _FIRST},
    }


def _last(evidence: Mapping[str, Any]) -> dict[str, Any]:
    row = evidence["map50_95"]
    return {
        **evidence["last"],
        "runtime": evidence["runtime"]["name"],
        "map50_95": {**row, "value": row["artifact"]},
        "fidelity": evidence["fidelity"],
    }


def _unmeasured() -> dict[str, Any]:
    nothing = {"value": None, "reason": _SKIPPED}
    return {"bytes": None, "counts": None, "runtime": "", "map50_95": nothing, "fidelity": nothing}


def _row(
    plan: Plan,
    index: int,
    stage: Mapping[str, Any],
    evidence: Mapping[str, Any],
    rows: Sequence[Row],
) -> Row:
    planned = plan.steps[index]
    figures: dict[str, Figure] = {
        "bytes": (stage["bytes"], _SKIPPED),
        **_counts(planned, stage["counts"], rows),
        "map50_95": _figure(stage["map50_95"]),
        "drop": _drop(stage["map50_95"], rows),
        "fidelity": _figure(stage["fidelity"]),
        **_latency(plan, index, evidence),
    }
    return Row(
        step=planned.step.name,
        at=f"{planned.at.file.name}:{planned.at.line}",
        format=planned.step.produces,
        runtime=stage["runtime"],
        **{name: value for name, (value, _) in figures.items()},
        reasons={name: reason for name, (value, reason) in figures.items() if value is None},
    )


def _figure(value: Mapping[str, Any]) -> Figure:
    return value["value"], value.get("reason", "")


def _counts(
    planned: PlannedStep, counted: Mapping[str, int] | None, rows: Sequence[Row]
) -> dict[str, Figure]:
    """As the plugin counts them; a backend's steps leave both as they were."""
    if counted:
        counts = Counts(**counted)
        return {"parameters": (counts.parameters, ""), "flops": (counts.flops, "")}
    reason = f"the {planned.backend.NAME} plugin does not count them"
    if planned.backend.DEVICES:
        before = rows[-1]
        return {
            name: (getattr(before, name), before.reasons.get(name, reason))
            for name in ("parameters", "flops")
        }
    return {"parameters": (None, reason), "flops": (None, reason)}


def _drop(measured: Mapping[str, Any], rows: Sequence[Row]) -> Figure:
    """Against the step before."""
    if not rows:
        return None, _FIRST
    ours, theirs = measured["value"], rows[-1].map50_95
    if ours is None or theirs is None:
        return None, rows[-1].reasons.get("map50_95") or measured["reason"]
    return (None, BLIND) if rows[0].map50_95 == 0 else (round(theirs - ours, 6), "")


def _latency(plan: Plan, index: int, evidence: Mapping[str, Any]) -> dict[str, Figure]:
    """Median of what is timed for the step, and how many times as fast as the first row's that is."""
    if evidence["latency_ratio"] is None:
        reason = evidence["latency_ratio_reason"]
        return {"latency_ms": (None, reason), "speedup": (None, reason)}
    times, first, runs = evidence["timed_ms"], plan.floats.get(0), timed_step(plan, index)
    last = index == len(plan.steps) - 1
    ours = evidence["latency_ms"]["median"] if last else runs and times.get(runs.id)
    if ours is None:
        export = plan.steps[plan.export].step.name
        reason = _SKIPPED if runs else f"`{export}` does not take its format"
        return {"latency_ms": (None, reason), "speedup": (None, reason)}
    faster = (round(times[first.id] / ours, 4), "") if first and first.id in times else None
    return {"latency_ms": (ours, ""), "speedup": faster or (None, evidence["speedup_reason"])}
