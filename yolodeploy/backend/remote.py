"""How an artifact runs on another machine: which module travels there, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend.contract import Artifact, Target
    from yolodeploy.backend.predictor import Layout, Outputs


@dataclass(frozen=True)
class Worker:
    """What of a plugin travels to a host.

    `module` imports the standard library, numpy and one runtime, runs on Python 3.9 and has `open(folder, options,
    threads)`. That returns a model: called with float32 `[N, channels, H, W]` in 0..1 it returns float32 arrays by name; its
    `runtime` is plain data with `name`, `version`, `device` and perhaps a `note`, its `batch` the images that it wants at a time (1 if it
    has none). What it raises as RuntimeError is shown as it is. A plugin that is `Serving` also has `serve(folder, options, threads)`, which
    returns a `Server`. `options` are the names of what a host's `options` in hosts.toml may say to it, which `open` gets as
    `options["host"]`. `requires` are the distributions that the host must have, `pinned` those whose version decides the results and so must
    be the one here.
    """

    module: str
    requires: tuple[str, ...]
    pinned: tuple[str, ...]
    options: tuple[str, ...] = ()


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
