"""What a backend may tell of a model's cost: the one optional part of the contract.

A source plugin that changes models defines `count(artifact, imgsz) -> Counts` beside the members
of `yolodeploy.backend.Backend`. A backend with devices need not: exporting and compressing change
neither figure, so those of the model that was exported hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from yolodeploy.backend import Artifact

FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Counts:
    """Parameters of a model, and multiply-accumulates for one square image."""

    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiplication and an addition each."""
        return FLOPS_PER_MAC * self.macs


@runtime_checkable
class Counting(Protocol):
    """A plugin that counts."""

    def count(self, artifact: Artifact, imgsz: int) -> Counts:
        """Count parameters, and multiply-accumulates for one image of imgsz x imgsz pixels."""
        ...
