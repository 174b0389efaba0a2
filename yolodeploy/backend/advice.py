"""What a backend advises for a first recipe: `yolodeploy init` asks it, and the core knows no step of any backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from yolodeploy.backend.device import Target
from yolodeploy.backend.model_info import ModelInfo
from yolodeploy.system import ImageShape


@dataclass(frozen=True)
class Situation:
    """What is known before anything is built.

    `imgsz` is the size that the model will run at, and `calibration` how many images steps may look at that are no evaluation
    images: 0 if there are none.
    """

    model: ModelInfo
    imgsz: ImageShape
    calibration: int = 0

    @property
    def parameters(self) -> float:
        """Parameters of the model, in millions: bytes a parameter times this are megabytes."""
        return self.model.parameters / 1e6


@dataclass(frozen=True)
class AdvisedStep:
    """A step with its parameters; `why` is a sentence or two for the comment above it."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class Advice:
    """The steps to begin with, and what their result surely keeps to on a model that bears them.

    `size_mb` is the largest size to expect in megabytes (1e6 bytes), `drop` the largest loss of the score, `fidelity` the
    least agreement with the source model; None: nothing can be said before it was measured. `more` are sentences on what to
    try next, for a comment.
    """

    steps: tuple[AdvisedStep, ...]
    size_mb: float | None = None
    drop: float | None = None
    fidelity: float | None = None
    more: tuple[str, ...] = ()


@runtime_checkable
class Advising(Protocol):
    """A plugin with devices that knows what to begin with on them.

    `SUGGESTED` is the device that `yolodeploy init` takes where nobody names one: one that many people have or ship to.
    """

    SUGGESTED: str

    def advise(self, situation: Situation, target: Target) -> Advice:
        """Say what to begin with; reads no file and imports no toolchain."""
