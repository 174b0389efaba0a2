"""The GPU that a recipe may ask for (`target: {gpu: ...}`), and the one of this machine that stands in for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from yolodeploy.backend.device import Target


@dataclass(frozen=True)
class GpuHere:
    """What this machine has in place of the target's GPU.

    `problem` says why it has nothing, with the remedy; None if it has something. `conditions` name the GPU and its
    driver: what was measured with others is measured again.
    """

    problem: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Accelerated(Protocol):
    """A plugin whose devices have `gpus`; its `open` runs the artifact on one where the target names it."""

    def gpu_here(self, target: Target) -> GpuHere:
        """Say what this machine has in place of the target's GPU; asked only if the target names one."""
