"""What was measured, as a typed list: readers of the list need no change for a new figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias


class Key(StrEnum):
    """What was measured: accuracies first, then costs."""

    MAP50_95 = "map50_95"
    MAP50 = "map50"
    MASK_MAP50_95 = "mask_map50_95"
    MASK_MAP50 = "mask_map50"
    POSE_MAP50_95 = "pose_map50_95"
    POSE_MAP50 = "pose_map50"
    TOP1 = "top1"  # share of images whose most probable class is right
    TOP5 = "top5"  # share of images whose class is among the five most probable
    SIZE_AP = "size_ap50_95"  # groups: sizes of objects
    CLASS_AP = "class_ap50_95"  # groups: classes; of classification their accuracy
    FIDELITY = "fidelity"
    DIVERGENCE = "divergence"  # of the artifact's probabilities from the source's, nats
    OUTPUT_DIFF = "output_diff"  # groups: outputs
    OUTPUT_DIFF_MEAN = "output_diff_mean"
    GOLDEN_DIFF = "golden_diff"  # from the golden output; groups: outputs
    GOLDEN_FOUND = "golden_found"  # share of the findings in the golden image on which both agree
    LATENCY = "latency_ms"
    LATENCY_P90 = "latency_p90_ms"
    PEAK_MEMORY = "peak_memory_mb"
    LATENCY_RATIO = "latency_ratio"
    SPEEDUP = "speedup"
    THROUGHPUT = "images_per_s"
    THROUGHPUT_RATIO = "throughput_ratio"


Curve: TypeAlias = Mapping[str, list[float]]  # columns of one length by name, numbers in 0..1
USUAL = 0.9  # confidence of an interval unless the recipe asks for another


@dataclass(frozen=True)
class Measure:
    """One figure of the artifact, and of the source model if it has one.

    `group` is the class, object size or output that was measured ("": all). `interval` contains the loss with the
    probability `confidence`; that of a latency, of a ratio or of images per second contains the figure. `count` is the number
    of objects that were scored, or of images whose outputs were compared. A figure that is None was not measured;
    `reason` says why.
    """

    key: Key
    source: float | None
    artifact: float | None
    higher_is_better: bool = True
    interval: tuple[float, float] | None = None
    confidence: float = USUAL
    group: str = ""
    count: int | None = None
    reason: str = ""

    @property
    def loss(self) -> float | None:
        """By how much the artifact is worse than the source; negative if it is better."""
        if self.source is None or self.artifact is None:
            return None
        loss = self.source - self.artifact
        return round(loss if self.higher_is_better else -loss, 6)


def one(measures: Iterable[Measure], key: Key, group: str = "") -> Measure:
    """The measure with this key and group; raises LookupError if there is none."""
    for measure in measures:
        if (measure.key, measure.group) == (key, group):
            return measure
    raise LookupError(f"{key} {group}".rstrip())


def grouped(measures: Iterable[Measure], key: Key) -> Iterator[Measure]:
    """The measures with this key, one for each group."""
    return (measure for measure in measures if measure.key == key and measure.group)


def plain_measures(measures: Iterable[Measure]) -> list[dict[str, Any]]:
    """Measures as plain data, accuracies to six digits."""
    return [
        {
            **asdict(measure),
            "source": six_digits(measure.source),
            "artifact": six_digits(measure.artifact),
            "loss": measure.loss,
        }
        for measure in measures
    ]


def six_digits(value: float | None) -> float | None:
    """A figure as reports give it."""
    return None if value is None else round(value, 6)


def percent(confidence: float) -> str:
    """A probability as reports give it: 0.9 is "90 %"."""
    return f"{100 * confidence:.4g} %"


def read_measures(rows: Iterable[Mapping[str, Any]]) -> tuple[Measure, ...]:
    """Measures from plain data."""
    found = []
    for row in rows:
        values = {name: value for name, value in row.items() if name != "loss"}
        values["key"] = Key(row["key"])
        values["interval"] = row["interval"] and tuple(row["interval"])
        found.append(Measure(**values))
    return tuple(found)
