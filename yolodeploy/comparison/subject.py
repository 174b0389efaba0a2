"""What is compared: an artifact, what was measured of it and where, and its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True)
class Figure:
    """A figure with the interval that contains it; None if it was not measured, `reason` says why."""

    value: float | None = None
    interval: Interval | None = None
    reason: str = ""


@dataclass(frozen=True)
class Timing:
    """What was timed on a machine; `ratio` is the latency relative to the fp32 export. Machines with the same `key` are one.

    `on_device` says that it is the target device.
    """

    key: str
    machine: str
    on_device: bool
    latency: Figure
    ratio: Figure


@dataclass(frozen=True)
class Subject:
    """One artifact and what was measured of it; the first of `timings` is that of the deploy.

    `name` is the recipe's; `score` the key of the figure that its task scores first, with `source` and `artifact`, and `drop`
    between them. `model`, `weights` and `data` are digests of the loaded model, the weights file and the evaluation images:
    artifacts with the same can be compared. `recipe` and `versions` are the plan's, empty for a report alone. `missing` are
    sentences on what is not known.
    """

    path: Path
    name: str
    device: str
    title: str
    backend: str
    task: str
    score: str
    bytes: int
    images: int | None
    source: float | None
    artifact: float | None
    drop: Figure
    fidelity: Figure
    timings: Sequence[Timing]
    checks: Mapping[str, bool]
    model: str = ""
    weights: str = ""
    data: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    pictures: Path | None = None
    missing: tuple[str, ...] = ()

    @property
    def megabytes(self) -> float:
        """Its size in megabytes (1e6 bytes)."""
        return self.bytes / 1e6

    @property
    def ratio(self) -> Figure:
        """The latency relative to the fp32 export where it was deployed."""
        return self.timings[0].ratio
