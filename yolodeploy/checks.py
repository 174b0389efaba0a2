"""The recipe's checks, held against the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolodeploy.errors import PlanRefused
from yolodeploy.recipe import Checks, RecipeFile
from yolodeploy.wording import suggestion

if TYPE_CHECKING:
    from yolodeploy.chain import Row

_REMEDIES = {
    "size_mb": "Store weights in fp16, or compress further; or raise the limit.",
    "map_drop": "Compress less, or keep the sensitive layers in floating point; or allow a larger drop.",
    "class_ap_drop": "Compress less, or measure on more images of that class; or allow a larger drop.",
    "fidelity": "Compress less, or keep the sensitive layers in floating point; or allow a lower fidelity.",
    "latency_ratio": "This form does not pay on this processor: choose another, or raise the limit.",
    "speedup": "Prune more, or choose a form that this processor computes faster; or lower the limit.",
    "step_drop": "Let the step train longer, cut or compress less; or allow a larger drop.",
    "output_diff": "Export with `precision: fp32`, or allow a larger difference.",
}

_LEAST = {"fidelity", "speedup"}
BLIND = "the source model finds none of the labelled objects: wrong weights, labels or imgsz?"


@dataclass(frozen=True)
class Check:
    """One check: the limit, the measured value (None: not measured, see `note`), the verdict.

    `least` tells that the limit is the smallest value allowed, not the largest.
    """

    name: str
    limit: float
    value: float | None
    ok: bool
    note: str = ""
    least: bool = False

    def failure(self) -> str:
        """A failed check in one sentence, and what to try."""
        if self.value is None:
            return f"{self.name}: not measured ({self.note}), so the check cannot pass. Remove it or supply the data."
        by, side = _number(abs(self.value - self.limit)), "below" if self.least else "over"
        subject = f" ({self.note})" if self.note else ""
        return (
            f"{self.name}{subject}: {_number(self.value)} is {by} {side} the limit of "
            f"{_number(self.limit)}. {_REMEDIES[self.name.split('.')[0]]}"
        )


def refuse_unknown_steps(file: RecipeFile, names: Sequence[str]) -> None:
    """Raise PlanRefused where a check names a step that is not among the recipe's."""
    for name in file.recipe.checks.step_drop or ():
        if name not in names:
            hint = suggestion(name, dict.fromkeys(names))
            raise PlanRefused(
                f"{file.where('checks', 'step_drop', name)}: `step_drop` names `{name}`, which is no step "
                f"of this recipe.{hint}"
            )


def run_checks(
    wanted: Checks, evidence: Mapping[str, Any], chain: Sequence[Row], size: int
) -> tuple[Check, ...]:
    """Hold the evidence and the artifact's size in bytes against every check the recipe makes."""
    worst = _worst_class(evidence["per_class"])
    values: dict[str, tuple[float | None, str]] = {
        "size_mb": (round(size / 1e6, 6), ""),
        "map_drop": _map_drop(evidence["map50_95"]),
        "class_ap_drop": worst,
        "fidelity": (evidence["fidelity"]["value"], evidence["fidelity"].get("reason", "")),
        "latency_ratio": (
            evidence["latency_ratio"],
            evidence.get("latency_ratio_reason", f"on {evidence['cpu']}"),
        ),
        "speedup": (
            evidence["speedup"],
            evidence.get("speedup_reason", f"on {evidence['cpu']}"),
        ),
        "output_diff": (evidence["output_diff"]["max"], ""),
    }
    limits = wanted.model_dump(exclude_none=True, exclude={"step_drop"})
    whole = [_check(name, limit, *values[name]) for name, limit in limits.items()]
    return (*whole, *_step_checks(wanted.step_drop or {}, chain))


def _step_checks(limits: Mapping[str, float], chain: Sequence[Row]) -> Iterator[Check]:
    """One for every step that a limit names; a step that a recipe takes twice is held to it twice."""
    for row in chain:
        if row.step in limits:
            reason = f"{row.reasons['drop']}; {row.at}" if row.drop is None else row.at
            yield _check(f"step_drop.{row.step}", limits[row.step], row.drop, reason)


def _check(name: str, limit: float, value: float | None, note: str) -> Check:
    least = name in _LEAST
    held = value is not None and (value >= limit if least else value <= limit)
    return Check(name, limit, value, held, note, least)


def _map_drop(row: Mapping[str, Any]) -> tuple[float | None, str]:
    """The drop of mAP; a source model that finds nothing has nothing to lose and proves nothing."""
    return (None, BLIND) if row["source"] == 0 else (row["drop"], row.get("reason", ""))


def _worst_class(rows: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    labelled = [row for row in rows if row["drop"] is not None]
    measured = [row for row in labelled if row["source"] > 0]
    if not measured:
        return None, BLIND if labelled else "no class has labels"
    worst = max(measured, key=lambda row: float(row["drop"]))
    return worst["drop"], f"class `{worst['name']}`"


def _number(value: float) -> str:
    return f"{value:.4g}"
