"""What every host can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Backend, Hardware, Predictor, Target
    from yolodeploy.worker.turns import Timing


@dataclass(frozen=True)
class Timed:
    """What to time: an artifact, and others by name that take turns with it, in the runtime of one backend.

    `tensor` is a .npy file with one image `[1, channels, H, W]`. `limits` are the ratios of the artifact's
    latency to that of another, by its name, at which a verdict turns; those by the name "" are milliseconds per image. With `serving`, images per second are measured
    too, on so many threads, against the other that is the `reference`. `report` is told the share of the work that is done.
    With `brief`, the speed says nothing about the device, so few runs do.
    """

    backend: Backend
    target: Target
    artifact: Artifact
    others: Mapping[str, Artifact]
    tensor: str
    threads: int
    limits: Mapping[str, Sequence[float]] = field(default_factory=dict)
    serving: int = 0
    reference: str = ""
    brief: bool = False
    report: Callable[[float], None] = field(default=lambda _: None, compare=False)


@dataclass(frozen=True)
class Survey:
    """A machine as a list of hosts shows it; `distributions` are versions, None for what is missing."""

    hardware: Hardware
    python: str
    distributions: Mapping[str, str | None]


@runtime_checkable
class Surveyable(Protocol):
    """A host that says what is installed there, and how to install what is not."""

    def survey(self, distributions: Sequence[str]) -> Survey:
        """Ask the machine for itself and for these distributions; HostProblem if it cannot be reached."""

    def install(self, requirements: Sequence[str]) -> str:
        """The command, to be run here, that installs distributions there."""


class Host(Protocol):
    """A machine that runs artifacts. Whoever opens one closes it."""

    @property
    def name(self) -> str:
        """Its name in hosts.toml; "" for this machine."""

    @property
    def claims(self) -> str:
        """The device that hosts.toml says it is; "" if it says nothing."""

    @property
    def processors(self) -> int:
        """How many images it can work on at the same time."""

    @property
    def untimed(self) -> str:
        """Why nothing is timed there, as the end of a sentence; "" if it is."""

    def hardware(self, backend: Backend) -> Hardware:
        """What the machine says of itself; `backend` is the one whose artifacts shall run there."""

    def conditions(self, backend: Backend) -> Mapping[str, Any]:
        """Everything about it that a measurement depends on, as plain data that goes into ids."""

    def open(self, backend: Backend, artifact: Artifact, target: Target, threads: int) -> Predictor:
        """Open an artifact in the runtime that the host has."""

    def time(self, timed: Timed) -> Timing:
        """Time an artifact in a fresh process; StepFailed with the reason if that fails."""

    def close(self) -> None:
        """End what still runs there."""
