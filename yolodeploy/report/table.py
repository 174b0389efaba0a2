"""The report as a table for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.measure import number
from yolodeploy.report import breakdown_table
from yolodeploy.report.report import (
    climate_words,
    details_of,
    forms_of_layers,
    per_batch,
    place_words,
    requests_in_flight,
    signed,
    where_timed,
)
from yolodeploy.system import WIDTH
from yolodeploy.tasks import (
    FINDINGS,
    TITLES,
    Key,
    Measure,
    difference_name,
    grouped,
    one,
    percent,
    read_measures,
)

_LABEL = 14
Row = tuple[str, str]  # label and text


def report_table(report: Mapping[str, Any]) -> str:
    """The report as text."""
    target, artifact = report["target"], report["artifact"]
    with_breakdown = breakdown_table.has_results_between(report["chain"])
    measures = read_measures(report["measures"])
    rows = [
        ("target", f"{target['title']} ({details_of(target)}), {report['backend']}"),
        ("steps", ", ".join(map(_step, report["steps"]))),
        ("size", f"{artifact['bytes'] / 1e6:.2f} MB, {artifact['format']}"),
        *(("note", text) for text in report["notes"]),
        *_layers(report["interface"]["layers"]),
        *_evaluation(report),
        *_calibration(report["data"]),
        *_accuracy(report, measures),
        *_cost(measures, report["conditions"], with_speedup=with_breakdown),
        *map(_check, report["checks"]),
    ]
    lines = [report["name"], *(row(label, text) for label, text in rows)]
    if with_breakdown:
        lines += ["", *breakdown_table.lines(report)]
    return "\n".join(lines)


def _step(step: Mapping[str, Any]) -> str:
    seconds = "?" if step["seconds"] is None else f"{step['seconds']:.1f} s"
    return f"{step['name']} {seconds}{' (cached)' if step['cached'] else ''}"


def _layers(layers: Mapping[str, str]) -> Iterator[Row]:
    if forms := forms_of_layers(layers):
        yield "convolutions", ", ".join(f"{len(names)} {form}" for form, names in forms)


def _evaluation(report: Mapping[str, Any]) -> Iterator[Row]:
    view, model = report["data"]["evaluation"], report["model"]
    labels = f"{view['labelled']} with a label file, {view['objects']} objects"
    if model["task"] == "classify":
        labels = f"{len(model['classes'])} classes"
    skipped = sum(view["skipped"].values())
    left_out = f", {skipped} files skipped" if skipped else ""
    yield "evaluation", f"{view['images']} images of `{view['split']}`, {labels}{left_out}"


def _calibration(data: Mapping[str, Any]) -> Iterator[Row]:
    view = data.get("calibration")
    if view and view["read_by"]:
        images = f"{view['images']} images of `{view['split']}`{_readers(view)}"
        yield "calibration", f"{images}, sha256 {view['digest'][:12]}"


def _readers(view: Mapping[str, Any]) -> str:
    fewer = [f"{step} {count}" for step, count in view["read_by"].items() if count < view["images"]]
    return f" (read by {', '.join(fewer)})" if fewer else ""


def _accuracy(report: Mapping[str, Any], measures: Sequence[Measure]) -> Iterator[Row]:
    images, found = report["conditions"]["images"], FINDINGS[report["model"]["task"]]
    for key in report["scores"]:
        yield TITLES[key], _compared(one(measures, Key(key)), images)
    if sizes := [size for size in grouped(measures, Key.SIZE_AP) if size.loss is not None]:
        yield "by object size", ", ".join(map(_group, sizes))
    if worst := worst_classes(measures, 5):
        yield "worst classes", ", ".join(map(_group, worst))
    yield "fidelity", _fidelity(one(measures, Key.FIDELITY), found)
    for measure in measures:
        if measure.key == Key.DIVERGENCE and measure.artifact is not None:
            yield "divergence", f"{measure.artifact:.3g} nats from the source model's probabilities"
    yield "output diff", _difference(measures, images)


def _compared(measure: Measure, images: int) -> str:
    if measure.source is None or measure.artifact is None:
        return f"not measured: {measure.reason}"
    interval = ""
    if measure.interval:
        low, high = measure.interval
        interval = f"{percent(measure.confidence)} interval {low:+.4f} to {high:+.4f}, "
    figures = f"{measure.artifact:.4f}, source {measure.source:.4f}, drop {signed(measure.loss)}"
    return f"{figures} ({interval}{images} images)"


def _group(measure: Measure) -> str:
    return f"{measure.group} {signed(measure.loss)}"


def worst_classes(measures: Sequence[Measure], count: int) -> list[Measure]:
    """The classes that lost most; losses that round to 0.0000 do not count."""
    classes = grouped(measures, Key.CLASS_AP)
    lost = [(m.loss, m) for m in classes if m.loss is not None and round(m.loss, 4) > 0]
    return [measure for _, measure in sorted(lost, key=lambda pair: -pair[0])[:count]]


def _fidelity(measure: Measure, found: str) -> str:
    if measure.artifact is None:
        return f"not measured: {measure.reason}"
    return f"{measure.artifact:.4f} to the source model's {measure.count} {found}"


def _difference(measures: Sequence[Measure], images: int) -> str:
    overall, mean = (one(measures, key) for key in (Key.OUTPUT_DIFF, Key.OUTPUT_DIFF_MEAN))
    parts = ", ".join(map(_largest, grouped(measures, Key.OUTPUT_DIFF)))
    count = overall.count
    return f"max {overall.artifact:.4g}, mean {mean.artifact:.2g} ({parts}; on {count} of {images} images)"


def _largest(difference: Measure) -> str:
    name, unit = difference_name(difference.group)
    return f"{name} max {difference.artifact:.{4 if unit else 2}g}{unit}"


def _cost(
    measures: Sequence[Measure], conditions: Mapping[str, Any], *, with_speedup: bool
) -> Iterator[Row]:
    runtime = conditions["runtime"]
    yield from _times(measures, conditions, with_speedup=with_speedup)
    if climate := climate_words(conditions):
        yield "climate", climate
    yield "measured in", f"{runtime['name']} {runtime['version']} on {runtime['device']}"
    if runtime["note"]:
        yield "", runtime["note"]
    yield "measured on", place_words(conditions)


def _times(
    measures: Sequence[Measure], conditions: Mapping[str, Any], *, with_speedup: bool
) -> Iterator[Row]:
    """Latency, images per second and memory, or why nothing was timed."""
    times = [one(measures, key) for key in (Key.LATENCY, Key.LATENCY_P90, Key.PEAK_MEMORY)]
    median, p90, memory = (each.artifact for each in times)
    if median is None:
        yield "latency", f"not measured: {times[0].reason}"
        return
    ratio, speedup = one(measures, Key.LATENCY_RATIO), one(measures, Key.SPEEDUP)
    batch = conditions["batch"]
    each = " per image" if batch > 1 else ""
    compared = "" if ratio.artifact is None else f", {_ranged(ratio)} times the fp32 export's{each}"
    if with_speedup and speedup.artifact is not None:
        compared += (
            f" and {_ranged(speedup)} times as fast as the fp32 export of the model as loaded"
        )
    figures = f"median {median:.1f} ms, p90 {p90:.1f} ms{per_batch(batch)}{compared}"
    yield "latency", f"{figures} ({where_timed(conditions)})"
    yield from map(_on_more, grouped(measures, Key.LATENCY))
    yield from _served(measures, conditions)
    yield "peak memory", f"{memory:.0f} MB, whole process"


def _served(measures: Sequence[Measure], conditions: Mapping[str, Any]) -> Iterator[Row]:
    """Images per second, where they were measured."""
    rate, ratio = one(measures, Key.THROUGHPUT), one(measures, Key.THROUGHPUT_RATIO)
    if rate.artifact is None:
        return
    low, high = rate.interval or (0.0, 0.0)
    figures = f"{rate.artifact:.4g} ({low:.4g} to {high:.4g}), fp32 export for one image {rate.source:.4g}"
    yield (
        "images/s",
        f"{figures}: {_ranged(ratio)} times as many ({requests_in_flight(conditions)})",
    )


def _ranged(measure: Measure) -> str:
    """A figure with its interval."""
    low, high = measure.interval or (0.0, 0.0)
    return f"{measure.artifact:.2f} ({low:.2f} to {high:.2f})"


def _on_more(latency: Measure) -> Row:
    """The latency on more than one thread."""
    if latency.artifact is None:
        return "", f"not measured on {latency.group}: {latency.reason}"
    export = "" if latency.source is None else f", fp32 export {latency.source:.1f} ms"
    return "", f"on {latency.group}: median {latency.artifact:.1f} ms{export}"


def _check(check: Mapping[str, Any]) -> Row:
    value = number(check["value"]) if check["value"] is not None else "not measured"
    limit = f"{'at least' if check['least'] else 'limit'} {number(check['limit'])}"
    interval, notes = check["interval"], [limit]
    if interval:
        notes.append(f"{number(interval[0])} to {number(interval[1])}")
    if check["note"]:
        notes.append(check["note"])
    doubt = f". {check['doubt']}" if check["doubt"] else ""
    return "check", f"{check['verdict']:<6} {check['name']} {value} ({', '.join(notes)}){doubt}"


def row(label: str, text: str) -> str:
    """A line of a table, or several."""
    indent = " " * (_LABEL + 4)
    body = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"  {label:<{_LABEL}}  {body.lstrip()}"
