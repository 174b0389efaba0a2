"""The model card of a bill of materials: what was measured, and what to consider. CycloneDX 1.6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def model_card(plan: Mapping[str, Any], report: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The card as data; values are texts, as the format has it."""
    interface = report["interface"]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": task,
            "architectureFamily": "convolutional neural network",
            "datasets": [{"ref": f"data/{name}"} for name in sorted(plan["data"])],
            "inputs": [{"format": _tensor(tensor)} for tensor in interface["inputs"]],
            "outputs": [{"format": _tensor(tensor)} for tensor in interface["outputs"]],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(report["evidence"]))},
        "considerations": {
            "useCases": [f"Runs on {report['target']['title']}"],
            "technicalLimitations": list(_limitations(report["evidence"])),
            "performanceTradeoffs": list(_tradeoffs(report)),
        },
    }


def _tensor(tensor: Mapping[str, Any]) -> str:
    shape = "x".join(map(str, tensor["shape"]))
    return f"{tensor['name']}: {tensor['dtype']} {shape}, {tensor['meaning']}"


def _metrics(evidence: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, name in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        row = evidence[key]
        for model in ("artifact", "source"):
            if row[model] is not None:
                yield _metric(name, row[model], f"{model} model, all classes")
        if row["drop"] is not None:
            part = "all classes, 90 % interval" if "drop_90" in row else "all classes"
            yield {**_metric(f"drop of {name}", row["drop"], part), **_interval(row)}
    for row in evidence["per_class"]:
        if row["artifact"] is not None:
            yield _metric("AP50-95", row["artifact"], f"artifact model, class {row['name']}")
    if evidence["fidelity"]["value"] is not None:
        yield _metric("fidelity", evidence["fidelity"]["value"], "to the source model's detections")
    yield _metric("largest output difference", evidence["output_diff"]["max"], "all images")
    yield from _cost(evidence)


def _cost(evidence: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    where = f"{evidence['runtime']['name']} on {evidence['runtime']['device']}"
    for part in ("median", "p90"):
        yield _metric(f"latency, {part}, ms", evidence["latency_ms"][part], where)
    yield _metric("peak memory of the process, MB", evidence["peak_memory_mb"], where)


def _metric(name: str, value: object, part: str) -> dict[str, Any]:
    return {"type": name, "value": str(value), "slice": part}


def _interval(row: Mapping[str, Any]) -> dict[str, Any]:
    """The 90 % interval of a drop."""
    if "drop_90" not in row:
        return {}
    low, high = map(str, row["drop_90"])
    return {"confidenceInterval": {"lowerBound": low, "upperBound": high}}


def _limitations(evidence: Mapping[str, Any]) -> Iterator[str]:
    yield f"Measured on {evidence['images']} images; other images give other figures"
    for key, name in (("map50_95", "mAP50-95"), ("fidelity", "fidelity")):
        if reason := evidence[key].get("reason"):
            yield f"{name} was not measured: {reason}"
    if note := evidence["runtime"]["note"]:
        yield note


def _tradeoffs(report: Mapping[str, Any]) -> Iterator[str]:
    size, drop = report["artifact"]["bytes"] / 1e6, report["evidence"]["map50_95"]["drop"]
    cost = "not measured" if drop is None else f"{drop:+.4f}"
    yield f"{size:.2f} MB; drop of mAP50-95 against the source model: {cost}"
    for check in report["checks"]:
        yield f"check {check['name']}: {check['value']}, limit {check['limit']}"
