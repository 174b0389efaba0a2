"""What was measured of the artifact somewhere else, or later."""

from __future__ import annotations

from typing import Any

from yolodeploy.bundle import EvidenceSet
from yolodeploy.tasks import TITLES, Key

_ELSEWHERE = {
    Key.FIDELITY: "fidelity",
    Key.GOLDEN_DIFF: "largest difference from the golden output",
    Key.GOLDEN_FOUND: "share of the golden findings",
    Key.LATENCY: "latency, median, ms",
    Key.LATENCY_P90: "latency, p90, ms",
    Key.LATENCY_RATIO: "latency / fp32 export",
    Key.PEAK_MEMORY: "peak memory, MB",
}


def elsewhere(found: EvidenceSet, primary: Key) -> dict[str, Any]:
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
