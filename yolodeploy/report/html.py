"""Pages from Jinja2 templates: one self-contained file each, without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from yolodeploy.bundle import EvidenceSet
from yolodeploy.report import breakdown_table
from yolodeploy.report.report import (
    climate_words,
    forms_of_layers,
    per_batch,
    place_words,
    requests_in_flight,
    where_timed,
)
from yolodeploy.tasks import (
    FINDINGS,
    TITLES,
    Key,
    Measure,
    Pictures,
    grouped,
    one,
    percent,
    read_measures,
)

_ELSEWHERE = {
    Key.FIDELITY: "fidelity",
    Key.GOLDEN_DIFF: "largest difference from the golden output",
    Key.GOLDEN_FOUND: "share of the golden findings",
    Key.LATENCY: "latency, median, ms",
    Key.LATENCY_P90: "latency, p90, ms",
    Key.LATENCY_RATIO: "latency / fp32 export",
    Key.PEAK_MEMORY: "peak memory, MB",
}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("yolodeploy.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["four"] = _four
    return environment


def render(template: str, **values: Any) -> str:
    """Render a page; every value is escaped."""
    return _environment().get_template(template).render(**values)


def _four(value: float | None) -> str:
    """Four digits; adding 0.0 turns a rounded -0.0 into 0.0."""
    return "not measured" if value is None else f"{round(value, 4) + 0.0:.4f}"


def report_page(
    report: Mapping[str, Any],
    sets: Sequence[EvidenceSet] = (),
    pictures: Pictures | None = None,
) -> str:
    """The page of a report, of what was measured elsewhere, or later, and of its pictures, if there are some."""
    measures = read_measures(report["measures"])
    scores = [(TITLES[key], one(measures, Key(key))) for key in report["scores"]]
    title, overall = scores[0]
    sizes = [(f"{title}, {m.group} objects", m) for m in grouped(measures, Key.SIZE_AP)]
    return render(
        "report.html",
        report=report,
        accuracy=[*scores, *sizes],
        score=title,
        findings=FINDINGS[report["model"]["task"]],
        divergence=next((m for m in measures if m.key == Key.DIVERGENCE), None),
        interval=overall.interval,
        confidence=percent(overall.confidence),
        fidelity=one(measures, Key.FIDELITY),
        cost=_cost(report, measures),
        classes=list(grouped(measures, Key.CLASS_AP)),
        forms=forms_of_layers(report["interface"]["layers"]),
        titles=breakdown_table.titles(report),
        rows=[breakdown_table.cells(row) for row in report["chain"]],
        bars=breakdown_table.bars(report),
        notes=list(breakdown_table.notes(report)),
        pictures=pictures,
        sets=[_elsewhere(each, Key(report["scores"][0])) for each in sets],
    )


def _elsewhere(found: EvidenceSet, primary: Key) -> dict[str, Any]:
    """A set of evidence: where, figures by name, checks, and what was not measured."""
    names = {primary: TITLES[primary], **_ELSEWHERE}
    rows = [m for m in found.measures if m.key in names and m.artifact is not None]
    figures = [
        (names[m.key] + (f", {m.group}" if m.group else ""), f"{m.artifact:.4g}") for m in rows
    ]
    return {
        "words": found.words(),
        "figures": figures,
        "checks": [(check.name, check.verdict) for check in found.checks],
        "missing": found.missing,
    }


def _cost(report: Mapping[str, Any], measures: Sequence[Measure]) -> list[tuple[str, str]]:
    """Labels and figures of what the artifact costs."""
    conditions = report["conditions"]
    runtime, differences = conditions["runtime"], (Key.OUTPUT_DIFF, Key.OUTPUT_DIFF_MEAN)
    difference, mean = (one(measures, key).artifact for key in differences)
    compared = one(measures, Key.OUTPUT_DIFF).count
    return [
        ("size", f"{report['artifact']['bytes'] / 1e6:.3f} MB"),
        ("output difference", f"max {difference:.4g}, mean {mean:.3g} (on {compared} images)"),
        *_times(conditions, measures),
        *([("climate", climate)] if (climate := climate_words(conditions)) else []),
        ("runtime", f"{runtime['name']} {runtime['version']} on {runtime['device']}"),
        ("measured on", place_words(conditions)),
    ]


def _times(conditions: Mapping[str, Any], measures: Sequence[Measure]) -> list[tuple[str, str]]:
    """Latency, images per second and memory, or why nothing was timed."""
    if reason := _untimed(measures):
        return [("latency", f"not measured: {reason}")]
    median, p90 = (one(measures, key).artifact for key in (Key.LATENCY, Key.LATENCY_P90))
    where = where_timed(conditions)
    memory, more = one(measures, Key.PEAK_MEMORY).artifact, grouped(measures, Key.LATENCY)
    ratio, speedup = one(measures, Key.LATENCY_RATIO), one(measures, Key.SPEEDUP)
    batch = conditions["batch"]
    each = " per image" if batch > 1 else ""
    return [
        ("latency", f"median {median:.2f} ms, p90 {p90:.2f} ms{per_batch(batch)} ({where})"),
        *((f"latency on {m.group}", _figure(m, ".2f", " ms")) for m in more),
        (f"latency{each} / fp32 export of the same model", _figure(ratio, ".3f")),
        ("speedup over the fp32 export of the model as loaded", _figure(speedup, ".2f", "x")),
        *_served(conditions, measures),
        ("peak memory", f"{memory:.0f} MB (whole process)"),
    ]


def _untimed(measures: Sequence[Measure]) -> str:
    latency = one(measures, Key.LATENCY)
    return latency.reason if latency.artifact is None else ""


def _served(
    conditions: Mapping[str, Any], measures: Sequence[Measure]
) -> Iterator[tuple[str, str]]:
    """Images per second, where they were measured."""
    rate, ratio = one(measures, Key.THROUGHPUT), one(measures, Key.THROUGHPUT_RATIO)
    if rate.artifact is not None:
        yield "images/s", f"{_figure(rate, '.4g')} ({requests_in_flight(conditions)})"
        yield "images/s of the fp32 export for one image", f"{rate.source:.4g}"
        yield "images/s / fp32 export for one image", _figure(ratio, ".3f")


def _figure(measure: Measure, form: str, unit: str = "") -> str:
    if measure.artifact is None:
        return measure.reason
    interval = measure.interval and ", {0:{2}} to {1:{2}}".format(*measure.interval, form)
    return f"{measure.artifact:{form}}{unit}{interval or ''}"
