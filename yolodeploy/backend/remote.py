"""How an artifact runs on another machine: which module travels there, or, where there is no Python, which program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend.contract import Artifact
    from yolodeploy.backend.device import Target
    from yolodeploy.backend.predictor import Layout, Outputs
    from yolodeploy.worker.turns import Burst


@dataclass(frozen=True)
class Worker:
    """What of a plugin travels to a host.

    `module` imports the standard library, numpy and one runtime, runs on Python 3.9 and has `open(folder, options,
    threads)`. That returns a model: called with float32 `[N, channels, H, W]` in 0..1 it returns float32 arrays by name; its
    `runtime` is plain data with `name`, `version`, `device` and perhaps a `note`, its `batch` the images that it wants at a time (1 if it
    has none). What it raises as RuntimeError is shown as it is. A plugin that is `Serving` also has `serve(folder, options, threads)`, which
    returns a `Server`. `options` are the names of what a host's `options` in hosts.toml may say to it, which `open` gets as
    `options["host"]`. `requires` are the distributions that the host must have, `pinned` those whose version decides the results and so must
    be the one here. `systems` are those that the runtime exists for, as `platform.system()` names them (none: any).
    """

    module: str
    requires: tuple[str, ...]
    pinned: tuple[str, ...]
    options: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Remote:
    """An artifact as a host runs it.

    `options` are plain data for the worker's `open`. `outputs` are the names of what comes back, and `finish` makes of that what a
    predictor returns. `layout`, `note` and `timing` are those of the predictor, see `Runtime`; what the worker notes is added. `shapes`
    says the shapes of the outputs for one image, without the axis of the batch, if they are known; others are refused.
    """

    outputs: tuple[str, ...]
    finish: Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.float32] | Outputs]
    options: Mapping[str, Any] = field(default_factory=dict)
    layout: Layout = "anchors"
    note: str = ""
    timing: bool = True
    shapes: Callable[[], Sequence[tuple[int, ...]] | None] | None = None


@runtime_checkable
class Portable(Protocol):
    """A plugin whose artifacts run on other machines."""

    WORKER: Worker

    def remote(self, artifact: Artifact, target: Target) -> Remote:
        """Say how a host runs the artifact."""


@dataclass(frozen=True)
class NativeWork:
    """What a runner shall do.

    `predict` runs the only artifact on every image, `time` runs all in turns on the first image, `rounds` times from `first` on (the
    order of a round depends on its number). `images` are uint8 or, in 0..1, float32 files `[channels, H, W]`, which are kept by their
    digests: what is done with them the plugin decides from their number and `shape` alone. `cores` pins all threads.
    """

    mode: Literal["predict", "time"]
    artifacts: Sequence[Artifact]
    target: Target
    shape: tuple[int, int, int]
    images: int
    pixels: Literal["uint8", "float32"]
    threads: int
    cores: tuple[int, ...] = ()
    first: int = 0
    rounds: int = 12


@dataclass(frozen=True)
class NativeResults:
    """What a runner wrote.

    `version` is that of the runtime, `meta` what the runner says of the machine. `outputs`, of `predict`, are arrays `[N, ...]` by the
    names that `Remote.outputs` has; `bursts`, of `time`, those of each artifact.
    """

    version: str
    meta: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    bursts: Sequence[Sequence[Burst]] = ()
    peak_memory_mb: float = 0.0
    waited: float | None = None


@dataclass(frozen=True)
class NativeJob:
    """A job for a runner, started as `runner ARGUMENTS...` in a folder of its own.

    `files` are the content of the files there by name, bytes or where they lie here; the images, one after the other, are the file
    `images`. `results` is what the runner writes; `read` makes figures of its bytes, and raises ValueError with the reason if they
    are damaged, cut off, of another job, or not all.
    """

    arguments: Sequence[str]
    files: Mapping[str, bytes | Path]
    images: str
    results: str
    read: Callable[[bytes], NativeResults]


@runtime_checkable
class Native(Protocol):
    """A plugin whose artifacts run where there is no Python. It also has `remote`, see `Portable`."""

    def find_native(self, machine: str) -> Path:
        """The runner for a machine, as `uname -m` calls it; EnvironmentProblem with the command that builds it if there is none."""

    def native_job(self, work: NativeWork) -> NativeJob:
        """Put work in the runner's words."""
