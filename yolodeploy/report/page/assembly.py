"""Puts the page of a report together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolodeploy.bundle import EvidenceSet
from yolodeploy.report import breakdown_table
from yolodeploy.report.html import render
from yolodeploy.report.page.costs import costs
from yolodeploy.report.page.elsewhere import elsewhere
from yolodeploy.report.page.gallery import gallery
from yolodeploy.report.page.older import completed, completed_measures
from yolodeploy.report.page.verdict import cards, verdict
from yolodeploy.report.report import details_of, forms_of_layers, place_words
from yolodeploy.tasks import (
    FINDINGS,
    TITLES,
    Key,
    Measure,
    Pictures,
    grouped,
    one,
    percent,
)

MOST_ROWS = 500  # of the table of classes; report.json has all


def report_page(
    report: Mapping[str, Any],
    sets: Sequence[EvidenceSet] = (),
    pictures: Pictures | None = None,
) -> str:
    """The page of a report, of what was measured elsewhere, or later, and of its pictures, if there are some."""
    report = completed(report)
    measures = completed_measures(report)
    return render(
        "report.html",
        report=report,
        details=details_of(report["target"]),
        place=place_words(report["conditions"]),
        verdict=verdict(report),
        cards=cards(report, measures),
        gallery=None if pictures is None else gallery(pictures),
        findings=FINDINGS[report["model"]["task"]],
        cost=costs(report, measures),
        forms=forms_of_layers(report["interface"]["layers"]),
        sets=[elsewhere(each, Key(report["scores"][0])) for each in sets],
        **_accuracy(report, measures),
        **_chain(report),
        **_charts(report, measures),
    )


def _accuracy(report: Mapping[str, Any], measures: Sequence[Measure]) -> dict[str, Any]:
    """The tables of scores and classes."""
    scores = [(TITLES[key], one(measures, Key(key))) for key in report["scores"]]
    title, overall = scores[0]
    sizes = [(f"{title}, {m.group} objects", m) for m in grouped(measures, Key.SIZE_AP)]
    classes = list(grouped(measures, Key.CLASS_AP))
    return {
        "accuracy": [*scores, *sizes],
        "score": title,
        "divergence": next((m for m in measures if m.key == Key.DIVERGENCE), None),
        "interval": overall.interval,
        "confidence": percent(overall.confidence),
        "fidelity": one(measures, Key.FIDELITY),
        "classes": classes[:MOST_ROWS],
        "more_classes": max(0, len(classes) - MOST_ROWS),
    }


def _chain(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "titles": breakdown_table.titles(report),
        "rows": [breakdown_table.cells(row) for row in report["chain"]],
        "notes": list(breakdown_table.notes(report)),
    }


def _charts(report: Mapping[str, Any], measures: Sequence[Measure]) -> dict[str, Any]:
    """The groups of charts; what draws them is imported only here."""
    from yolodeploy.report.page import figures

    return {
        "curves": figures.curves(report),
        "drops": figures.class_drops(measures, classify=report["model"]["task"] == "classify"),
        "latencies": figures.latencies(report, measures),
        "weights": figures.weights(report),
        "falls": figures.chain(report),
    }
