"""The charts of a report, group by group, and a sentence in the place of what it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from yolodeploy.report.charts import (
    Axis,
    Bar,
    Series,
    bar_chart,
    ecdf,
    line_chart,
    waterfall,
)
from yolodeploy.report.report import signed
from yolodeploy.tasks import TITLES, Key, Measure, grouped, one

MOST_CLASSES, _MOST_LAYERS = 20, 14
_OLDER = "The report does not have them: an older release wrote it."
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Charts that belong together, and sentences on what they show, or on why there are none."""

    charts: Sequence[Markup] = ()
    notes: Sequence[str] = ()


def curves(report: Report) -> Group:
    """Precision over recall, and what a threshold of the confidence does; of classification accuracy and share."""
    found = report.get("curves")
    if found is None:
        return Group(notes=[_absence(report, "curves")])
    kinds = _classified if report["model"]["task"] == "classify" else _detected
    return kinds(found["artifact"], found["source"])


def _absence(report: Report, name: str) -> str:
    reason = report.get(f"{name}_reason")
    return f"Not measured: {reason}." if reason else _OLDER


def _detected(artifact: Report, source: Report) -> Group:
    recall = Axis("recall", 0, 1), Axis("precision", 0, 1)
    confidence = Axis("confidence", 0, 1), Axis("F1", 0, 1)
    charts = [
        _both("Precision over recall", artifact, source, ("precision_recall", "recall", "precision"), recall),
        _both("F1 over confidence", artifact, source, ("confidence", "confidence", "f1"), confidence),
    ]  # fmt: skip
    best = [
        f"{name} {f1:.3f} at {at:.2f}"
        for name, (f1, at) in (("artifact", _best(artifact)), ("source model", _best(source)))
    ]
    similarity = "means over the classes that have objects, at a similarity of .50"
    return Group(charts, [f"Curves are {similarity}. Best F1: {', '.join(best)} of confidence."])


def _best(curve: Report) -> tuple[float, float]:
    rows = curve["confidence"]
    return max(zip(rows["f1"], rows["confidence"], strict=True))


def _classified(artifact: Report, source: Report) -> Group:
    confidence = Axis("confidence at least", 0, 1)
    titles = {"accuracy": "Accuracy over confidence", "share": "Share of images over confidence"}
    charts = [
        _both(title, artifact, source, ("confidence", "confidence", name), (confidence, Axis(name, 0, 1)))
        for name, title in titles.items()
    ]  # fmt: skip
    note = "Of the images whose most probable class is at least that probable: how often it is right, and how many they are."
    return Group(charts, [note])


def _both(
    title: str, artifact: Report, source: Report, at: tuple[str, str, str], axes: tuple[Axis, Axis]
) -> Markup:
    curve, x, y = at
    series = [
        Series(name, list(zip(each[curve][x], each[curve][y], strict=True)), colour)
        for name, each, colour in (
            ("artifact", artifact, "artifact"),
            ("source model", source, "source"),
        )
    ]
    return line_chart(title, series, *axes)


def class_drops(measures: Sequence[Measure], *, classify: bool) -> Group:
    """The classes that lost most, with their intervals."""
    scored = [m for m in grouped(measures, Key.CLASS_AP) if m.loss is not None]
    if not scored:
        return Group(notes=["No class has a figure: the evaluation images have no labels."])
    worst = sorted(scored, key=lambda m: -(m.loss or 0.0))[:MOST_CLASSES]
    bars = [
        Bar(
            f"{m.group} ({m.count})",
            m.loss or 0.0,
            m.interval,
            signed(m.loss),
            _class_note(m),
            _colour(m.loss or 0.0),
        )
        for m in worst
    ]
    title = "Drop of every class"
    if len(scored) > len(worst):
        title = f"The {len(worst)} of {len(scored)} classes that lost most"
    chart = bar_chart(title, bars, Axis("drop (to the right: the artifact is worse)"))
    counted = "images" if classify else "objects"
    note = (
        f"In brackets: how many {counted} of the class were scored. The fewer, the more is chance."
    )
    return Group([chart], [note])


def _class_note(m: Measure) -> str:
    interval = f" ({signed(m.interval[0])} to {signed(m.interval[1])})" if m.interval else ""
    return f"{m.group}: {m.source:.4f} to {m.artifact:.4f}, drop {signed(m.loss)}{interval}, {m.count} objects"


def latencies(report: Report, measures: Sequence[Measure]) -> Group:
    """How latencies of the artifact and of the float export are distributed.

    Waiting for a processor is subtracted from a run; one of which nothing is left says nothing.
    """
    if reason := one(measures, Key.LATENCY).reason:
        return Group(notes=[f"Not measured: {reason}."])
    found = report.get("latencies")
    if not found:
        return Group(notes=[_absence(report, "latencies")])
    names = {"artifact": ("artifact", "artifact"), "float": ("fp32 export", "source")}
    series = [
        Series(title, [(float(ms), 0.0) for ms in found[name] if ms > 0], colour)
        for name, (title, colour) in names.items()
        if found.get(name)
    ]
    note = "The further to the left a curve is, the faster; the steeper it is, the steadier."
    return Group([ecdf("Latencies: share of runs up to a latency", series, Axis("ms"))], [note])


def weights(report: Report) -> Group:
    """Where the bytes of the artifact are: by form, by part, and the heaviest layers.

    Rows without a layer are what no layer takes.
    """
    rows = report.get("bytes_by_layer")
    if rows is None:
        return Group(notes=[_absence(report, "bytes_by_layer")])
    layers = [row for row in rows if row["layer"]]
    total = sum(row["bytes"] for row in layers)
    if not total:
        return Group(notes=["No layer has weights of its own."])
    heaviest = sorted(layers, key=lambda row: -row["bytes"])[:_MOST_LAYERS]
    bars = [
        Bar(row["layer"], row["bytes"] / 1e6, text=row["form"], note=_layer_note(row, total))
        for row in heaviest
    ]
    charts = [
        _sums("Bytes of weights by form", layers, "form", total),
        _sums("Bytes of weights by part", layers, "part", total),
        bar_chart(f"The heaviest of {len(layers)} layers", bars, Axis("MB", 0), letters=24),
    ]
    size = report["artifact"]["bytes"]
    rest = f"The layers take {total / 1e6:.2f} MB of {size / 1e6:.2f} MB; the rest is the graph and what it needs."
    return Group(charts, [rest])


def _sums(title: str, rows: Sequence[Report], field: str, total: int) -> Markup:
    sums = Counter[str]()
    for row in rows:
        sums[row[field] or "other"] += row["bytes"]
    bars = [
        Bar(name, size / 1e6, text=f"{size / total:.0%}", note=f"{name}: {size / 1e6:.3f} MB")
        for name, size in sums.most_common(_MOST_LAYERS)
    ]
    return bar_chart(title, bars, Axis("MB", 0))


def _layer_note(row: Report, total: int) -> str:
    share = row["bytes"] / total
    return (
        f"{row['layer']} ({row['part']}, {row['form']}): {row['bytes'] / 1e3:.1f} kB, {share:.1%}"
    )


# field of a row of the chain -> title, unit, how many make one, text of a figure
_FALLS: Mapping[str, tuple[str, str, float, Callable[[float], str]]] = {
    "bytes": ("Size", "MB", 1e6, lambda size: f"{size:.2f} MB"),
    "latency_ms": ("Latency", "ms", 1, lambda ms: f"{ms:.2f} ms"),
    "flops": ("Operations", "GFLOPs", 1e9, lambda count: f"{count:.3g} G"),
}


def chain(report: Report) -> Group:
    """What every step bought and cost, as waterfalls from the model as loaded to what ships."""
    return Group([*_falls(report), *_losses(report)])


def _falls(report: Report) -> Iterator[Markup]:
    for field, (title, unit, size, text) in _FALLS.items():
        found = [(step, figure / size) for step, figure in _known(report, field)]
        if len({figure for _, figure in found}) < 2:
            continue
        (first, start), (_, end) = found[0], found[-1]
        changes = [
            Bar(step, figure, text=_change(figure - before, text),
                note=f"{step}: {text(before)} to {text(figure)}", colour=_colour(figure - before))
            for (_, before), (step, figure) in pairwise(found)
        ]  # fmt: skip
        whole = Bar(first, start, text=text(start), colour="source")
        ships = Bar("ships", end, text=text(end), colour="artifact")
        yield waterfall(f"{title}, step by step", [whole, *changes, ships], Axis(unit, 0))


def _change(change: float, text: Callable[[float], str]) -> str:
    size = text(abs(change))
    if size == text(0.0):
        return "unchanged"
    return f"{'+' if change > 0 else '-'}{size}"


def _losses(report: Report) -> Iterator[Markup]:
    """What the steps lost of the accuracy, each against the one before that was measured."""
    found = _known(report, "score")
    bars = [
        Bar(step, before - score, text=signed(before - score), colour=_colour(before - score),
            note=f"{step}: {before:.4f} to {score:.4f}")
        for (_, before), (step, score) in pairwise(found)
    ]  # fmt: skip
    if bars:
        title = f"{TITLES[report['scores'][0]]} lost, step by step"
        yield bar_chart(title, bars, Axis("drop"), sort=False)


def _known(report: Report, field: str) -> list[tuple[str, float]]:
    return [(row["step"], row[field]) for row in report["chain"] if row[field] is not None]


def _colour(loss: float) -> str:
    return "bad" if loss > 0 else "good"
