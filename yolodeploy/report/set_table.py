"""What was measured of a bundle alone, as a table for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from yolodeploy.backend import Place
from yolodeploy.report.report import climate_words, per_batch, where_timed
from yolodeploy.report.table import Row, row
from yolodeploy.tasks import Key, difference_name, grouped, one, read_measures


def set_table(value: Mapping[str, Any]) -> str:
    """A set of evidence that was measured without a recipe, as text."""
    return "\n".join([value["recipe"], *(row(label, text) for label, text in _rows(value))])


def _rows(value: Mapping[str, Any]) -> Iterator[Row]:
    measures, place = read_measures(value["measures"]), Place(**value["place"])
    conditions = {**value["conditions"], "place": value["place"]}
    found, largest = one(measures, Key.GOLDEN_FOUND), one(measures, Key.GOLDEN_DIFF)
    same = "the same" if found.artifact == 1 else f"{found.artifact:.0%} of both are the same"
    yield "golden image", f"{same}, of {found.count} findings by class"
    parts = []
    for each in grouped(measures, Key.GOLDEN_DIFF):
        name, unit = difference_name(each.group)
        parts.append(f"{name} max {each.artifact:.4g}{unit}")
    yield "golden output", f"max difference {largest.artifact:.4g} ({', '.join(parts)})"
    latency, p90 = (one(measures, key) for key in (Key.LATENCY, Key.LATENCY_P90))
    if latency.artifact is None:
        yield "latency", f"not measured: {latency.reason}"
    else:
        timed = f"median {latency.artifact:.2f} ms, p90 {p90.artifact:.2f} ms"
        yield "latency", f"{timed}{per_batch(conditions['batch'])} ({where_timed(conditions)})"
        yield "peak memory", f"{one(measures, Key.PEAK_MEMORY).artifact:.0f} MB, whole process"
    if climate := climate_words(conditions):
        yield "climate", climate
    yield "measured in", f"{place.runtime} {place.version} on {place.cpu}"
    if note := conditions["runtime"]["note"]:
        yield "", note
    yield "measured on", place.words()
    for text in value["missing"]:
        yield "not measured", text
