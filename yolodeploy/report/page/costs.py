"""What the artifact costs, as rows of a table: size, difference of outputs, latency, images per second, memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from yolodeploy.report.report import (
    climate_words,
    per_batch,
    place_words,
    requests_in_flight,
    where_timed,
)
from yolodeploy.tasks import Key, Measure, grouped, one


def costs(report: Mapping[str, Any], measures: Sequence[Measure]) -> list[tuple[str, str]]:
    """Labels and figures of what the artifact costs."""
    conditions = report["conditions"]
    runtime, differences = conditions["runtime"], (Key.OUTPUT_DIFF, Key.OUTPUT_DIFF_MEAN)
    difference, mean = (one(measures, key).artifact for key in differences)
    compared = one(measures, Key.OUTPUT_DIFF)
    different = compared.reason
    if difference is not None and mean is not None:
        different = f"max {difference:.4g}, mean {mean:.3g} (on {compared.count} images)"
    return [
        ("size", f"{report['artifact']['bytes'] / 1e6:.3f} MB"),
        ("output difference", different),
        *_times(conditions, measures),
        *([("climate", climate)] if (climate := climate_words(conditions)) else []),
        ("runtime", f"{runtime['name']} {runtime['version']} on {runtime['device']}"),
        ("measured on", place_words(conditions)),
    ]


def _times(conditions: Mapping[str, Any], measures: Sequence[Measure]) -> list[tuple[str, str]]:
    """Latency, images per second and memory, or why nothing was timed."""
    if reason := _untimed(measures):
        return [("latency", f"not measured: {reason}")]
    latency, p90 = one(measures, Key.LATENCY), one(measures, Key.LATENCY_P90)
    memory, more = one(measures, Key.PEAK_MEMORY), grouped(measures, Key.LATENCY)
    ratio, speedup = one(measures, Key.LATENCY_RATIO), one(measures, Key.SPEEDUP)
    batch = conditions["batch"]
    each, where = " per image" if batch > 1 else "", where_timed(conditions)
    median = f"median {_figure(latency, '.2f', ' ms')}, p90 {_figure(p90, '.2f', ' ms')}"
    return [
        ("latency", f"{median}{per_batch(batch)} ({where})"),
        *((f"latency on {m.group}", _figure(m, ".2f", " ms")) for m in more),
        (f"latency{each} / fp32 export of the same model", _figure(ratio, ".3f")),
        ("speedup over the fp32 export of the model as loaded", _figure(speedup, ".2f", "x")),
        *_served(conditions, measures),
        ("peak memory", _figure(memory, ".0f", " MB (whole process)")),
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
