"""What a reader sees first: one sentence on what ships and whether it passed, and the figures that matter most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolodeploy.report.report import signed
from yolodeploy.tasks import FINDINGS, TITLES, Key, Measure, one

_STATES = ("ok", "FAILED", "UNDECIDED")


@dataclass(frozen=True)
class Verdict:
    """`state` is ok, failed, undecided or unchecked; `word` and `sentence` say it."""

    state: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Card:
    """One figure with its title, and what it is compared with."""

    title: str
    figure: str
    note: str


def verdict(report: Mapping[str, Any]) -> Verdict:
    """What ships, for which device, and whether it passed."""
    checks, artifact = report["checks"], report["artifact"]
    what = f"An artifact of {artifact['bytes'] / 1e6:.2f} MB ({artifact['format']})"
    device, total = report["target"]["title"], f"{len(checks)} check{'s' * (len(checks) != 1)}"
    counts = {word: sum(check["verdict"] == word for check in checks) for word in _STATES}
    if not checks:
        sentence = f"{what} ships for {device}. The recipe asks for no check."
        return Verdict("unchecked", "Not checked", sentence)
    if failed := counts["FAILED"]:
        sentence = f"{what} does not ship for {device}: {failed} of {total} failed."
        return Verdict("failed", "Failed", sentence)
    if unsure := counts["UNDECIDED"]:
        sentence = f"{what} ships for {device} although {unsure} of {total} could not be decided."
        return Verdict("undecided", "Undecided", sentence)
    passed = f"{what} ships for {device}: {counts['ok']} of {total} passed."
    return Verdict("ok", "Passed", passed)


def cards(report: Mapping[str, Any], measures: Sequence[Measure]) -> list[Card]:
    """Size, accuracy, fidelity and latency."""
    found = FINDINGS[report["model"]["task"]]
    score = one(measures, Key(report["scores"][0]))
    fidelity = one(measures, Key.FIDELITY)
    figures = [
        _size(report),
        Card(TITLES[score.key], _digits(score.artifact), score.reason or _against(score)),
    ]
    of = f"agreement with the source model's {fidelity.count} {found}"
    figures.append(Card("fidelity", _digits(fidelity.artifact), fidelity.reason or of))
    return [*figures, _latency(measures)]


def _digits(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:.4f}"


def _against(score: Measure) -> str:
    return f"drop {signed(score.loss)}{', '.join(_range(score))}, source {_digits(score.source)}"


def _range(score: Measure) -> Iterator[str]:
    if score.interval:
        yield f" ({signed(score.interval[0])} to {signed(score.interval[1])})"


def _size(report: Mapping[str, Any]) -> Card:
    size, first = (
        report["artifact"]["bytes"],
        report["chain"][0]["bytes"] if report["chain"] else None,
    )
    note = f"{size / first:.0%} of the {first / 1e6:.2f} MB that were loaded" if first else ""
    return Card("size", f"{size / 1e6:.2f} MB", note)


def _latency(measures: Sequence[Measure]) -> Card:
    latency, speedup = one(measures, Key.LATENCY), one(measures, Key.SPEEDUP)
    if latency.artifact is None:
        return Card("latency", "not measured", latency.reason)
    figure, times = f"{latency.artifact:.2f} ms", speedup.artifact
    if not times:
        return Card("latency", figure, speedup.reason)
    how = f"{times:.2f} times as fast as" if times >= 1 else f"{1 / times:.2f} times that of"
    return Card("latency", figure, f"{how} the fp32 export of the model as loaded")
