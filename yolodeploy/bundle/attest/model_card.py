"""The model card of a bill of materials (CycloneDX 1.6): figures, limits and trade-offs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from yolodeploy.backend import Place
from yolodeploy.tasks import TITLES, Key, Measure, one, percent, read_measures

NAMES = {
    **TITLES,
    Key.FIDELITY: "fidelity",
    Key.OUTPUT_DIFF: "largest output difference",
    Key.OUTPUT_DIFF_MEAN: "mean output difference",
    Key.LATENCY: "latency, median, ms",
    Key.LATENCY_P90: "latency, p90, ms",
    Key.LATENCY_RATIO: "latency over that of the fp32 export",
    Key.SPEEDUP: "speedup over the fp32 export of the model as loaded",
    Key.THROUGHPUT: "images per second",
    Key.THROUGHPUT_RATIO: "images per second over those of the fp32 export",
    Key.PEAK_MEMORY: "peak memory of the process, MB",
}
_COST = {
    *(Key.LATENCY, Key.LATENCY_P90, Key.LATENCY_RATIO, Key.SPEEDUP),
    *(Key.THROUGHPUT, Key.THROUGHPUT_RATIO, Key.PEAK_MEMORY),
}


def model_card(plan: Mapping[str, Any], report: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The card as data; the format wants values as text."""
    interface, measures = report["interface"], read_measures(report["measures"])
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": task,
            "architectureFamily": "convolutional neural network",
            "datasets": [{"ref": f"data/{name}"} for name in sorted(plan["data"])],
            "inputs": [{"format": _tensor(tensor)} for tensor in interface["inputs"]],
            "outputs": [{"format": _tensor(tensor)} for tensor in interface["outputs"]],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(report, measures))},
        "considerations": {
            "useCases": [f"Runs on {report['target']['title']}"],
            "technicalLimitations": [*report["notes"], *_limitations(report, measures)],
            "performanceTradeoffs": list(_tradeoffs(report, measures)),
        },
    }


def _tensor(tensor: Mapping[str, Any]) -> str:
    shape = "x".join(map(str, tensor["shape"]))
    return f"{tensor['name']}: {tensor['dtype']} {shape}, {tensor['meaning']}"


def _metrics(report: Mapping[str, Any], measures: Iterable[Measure]) -> Iterator[dict[str, Any]]:
    """Every measured figure of both models, and the loss with its interval."""
    runtime, parts = report["conditions"]["runtime"], _of_parts(Key(report["scores"][0]))
    host = runtime["host"] and f" of {runtime['host']}"
    where = f"{runtime['name']} on {runtime['device']}{host}"
    for measure in measures:
        name = parts.get(measure.key) or NAMES.get(measure.key, measure.key)
        if measure.key in _COST:
            if measure.artifact is not None:
                part = f"{where}, {measure.group}" if measure.group else where
                yield _metric(name, measure.artifact, part)
            continue
        part = measure.group or "all classes"
        if measure.key == Key.CLASS_AP:
            part = f"class {part}"
        for model, value in (("artifact", measure.artifact), ("source", measure.source)):
            if value is not None:
                yield _metric(name, value, f"{model} model, {part}")
        if measure.loss is not None and not measure.group:
            yield _loss(name, measure, part)


def _of_parts(primary: Key) -> dict[Key, str]:
    """What the primary measure is called of one class, and of objects of one size: no mean over classes."""
    of_a_class = NAMES[primary].replace("mAP", "AP")
    return {Key.CLASS_AP: of_a_class, Key.SIZE_AP: f"{of_a_class} by object size"}


def _loss(name: str, measure: Measure, part: str) -> dict[str, Any]:
    if measure.interval is None:
        return _metric(f"drop of {name}", measure.loss, part)
    low, high = map(str, measure.interval)
    interval = {"confidenceInterval": {"lowerBound": low, "upperBound": high}}
    return {
        **_metric(
            f"drop of {name}", measure.loss, f"{part}, {percent(measure.confidence)} interval"
        ),
        **interval,
    }


def _metric(name: str, value: object, part: str) -> dict[str, Any]:
    return {"type": name, "value": str(value), "slice": part}


def _limitations(report: Mapping[str, Any], measures: Iterable[Measure]) -> Iterator[str]:
    conditions = report["conditions"]
    yield f"Measured on {conditions['images']} images; other images give other figures"
    yield f"Measured on {Place(**conditions['place']).words()}"
    for measure in measures:
        if measure.key in (report["scores"][0], Key.FIDELITY) and measure.reason:
            yield f"{NAMES[measure.key]} was not measured: {measure.reason}"
    if note := conditions["runtime"]["note"]:
        yield note


def _tradeoffs(report: Mapping[str, Any], measures: Iterable[Measure]) -> Iterator[str]:
    size, primary = report["artifact"]["bytes"] / 1e6, Key(report["scores"][0])
    loss = one(measures, primary).loss
    cost = "not measured" if loss is None else f"{loss:+.4f}"
    yield f"{size:.2f} MB; drop of {NAMES[primary]} against the source model: {cost}"
    for check in report["checks"]:
        between = " ({} to {})".format(*check["interval"]) if check["interval"] else ""
        yield f"check {check['name']}: {check['value']}{between}, limit {check['limit']}: {check['verdict']}"
