"""The contract that a plugin satisfies: a module with a table and plain functions.

A plugin is found through the entry point group `yolodeploy.backends`. Importing it must
import no toolchain; heavy imports live inside its functions. docs/adding-a-backend.md
walks through a complete one.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from yolodeploy.info import ModelInfo as ModelInfo  # noqa: PLC0414 - part of the contract

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.dataset import Dataset
    from yolodeploy.transforms import Params


@dataclass(frozen=True)
class Artifact:
    """A finished result of a step: a folder of files in one format.

    `path` is the folder (read only: it lies in the store), `digest` the sha256 of its
    tree, `format` what the next step's `accepts` is compared with.
    """

    format: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Device:
    """A real device, as data.

    `os_min`/`os_max` bound the versions of `os` that it runs (None: not applicable or
    open), and `os_default` is what a recipe gets that names none. `features` are the instruction sets and units that decide what pays there.
    `options` are hints that only the owning plugin reads.
    """

    name: str
    title: str
    os: str
    os_min: str | None = None
    os_max: str | None = None
    features: frozenset[str] = frozenset()
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    source: str = ""
    os_default: str | None = None


@dataclass(frozen=True)
class Target:
    """A device and the OS version that the artifact has to run on (None: does not matter)."""

    device: Device
    os_version: str | None = None


@dataclass(frozen=True)
class Context:
    """What a running step gets besides its input and parameters.

    `work` is an empty folder of its own; what the step returns is that folder or one below it.
    `imgsz` is the side of the square input in pixels. `names` are the model's class names
    (empty for the loading step). `data` holds the views that the step named in `reads`.
    `progress(done, text)` takes a fraction in 0..1. `memo(key, compute)` returns plain data (what
    JSON can hold) that an earlier run computed for the same key, input, tool versions and image
    size, or computes and keeps it; the key names everything else that the data depends on.
    `source` is the model as it was loaded from the recipe's weights (None for the loading step).
    `resume` is a folder of the step's own that outlives a run that was killed or failed, for going on
    from there: it may not exist yet, whatever lies in it was written by the same step with the same
    inputs, and it is gone once the step has a result.
    """

    work: Path
    seed: int
    imgsz: int
    threads: int
    target: Target
    names: tuple[str, ...]
    data: Mapping[str, Dataset]
    progress: Callable[[float, str], None]
    memo: Callable[[Mapping[str, Any], Callable[[], Any]], Any] = lambda _key, compute: compute()
    source: Artifact | None = None
    resume: Path | None = None


@dataclass(frozen=True)
class Trial:
    """One convolution compressed alone: its name, its part of the model, how, and its size.

    `scheme` is what the report calls it ("int8", "4 bits"); `weights` counts its weights.
    """

    layer: str
    part: str
    scheme: str
    weights: int


@dataclass(frozen=True)
class Probe:
    """The single layers that a step could compress, for measuring what each costs.

    `write(trial, folder)` fills the empty folder with the artifact in which only that layer is
    compressed. `key` is plain data: whatever besides the input and the trial decides its bytes
    (calibration images, method).
    """

    trials: tuple[Trial, ...]
    write: Callable[[Trial, Path], None]
    key: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One transform that a recipe can name.

    `accepts` and `produces` are artifact formats; a step that loads a weights file accepts
    its suffix (".pt"). `run` returns the folder that holds the result, whose bytes depend
    on nothing but the input, the parameters, the context and `versions()`; raise `revision`
    when its bytes change without any of those. `reads` names the data views it needs
    ("calibration"), or tells them from the parameters. `reference`, on an export step, gives the
    parameters of the plain float export that latency is compared with. `tools` are distributions
    that only this step uses (the backend's `versions()` go into the ids of all its steps).
    `probe`, on a compressing step, is what `yolodeploy sensitivity` measures single layers with.
    `varies` says, for parameters with which the bytes may differ from run to run, why; or None.
    `then(params, rest)` says why the steps that the recipe has after this one do not fit what it made,
    with the remedy; or None.
    """

    name: str
    accepts: str
    produces: str
    params: type[Params]
    run: Callable[[Artifact, Params, Context], Path]
    revision: int = 1
    reads: tuple[str, ...] | Callable[[Params], tuple[str, ...]] = ()
    reference: Callable[[Params], Params] | None = None
    tools: tuple[str, ...] = ()
    probe: Callable[[Artifact, Params, Context], Probe] | None = None
    varies: Callable[[Params], str | None] | None = None
    then: Callable[[Params, Sequence[tuple[Step, Params]]], str | None] | None = None

    def needs(self, params: Params) -> tuple[str, ...]:
        """The data views that the step reads with these parameters."""
        return self.reads(params) if callable(self.reads) else self.reads

    def versions(self, backend: Backend) -> dict[str, str]:
        """Versions of everything that can change the bytes of this step of the backend."""
        return {**backend.versions(), **installed(*self.tools)}


@dataclass(frozen=True)
class Runtime:
    """What a predictor ran on; goes into the evidence.

    `timing` is False where its speed says nothing about the target, so that no check uses it.
    """

    name: str
    version: str
    device: str
    threads: int
    note: str = ""
    timing: bool = True


class Predictor(Protocol):
    """An opened artifact.

    Takes float32 RGB images `[N, 3, H, W]` in 0..1 and returns the raw head output
    `[N, 4 + classes, anchors]` float32: boxes as centre x, centre y, width, height in input
    pixels, then one score in 0..1 per class.
    """

    runtime: Runtime

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the artifact on a batch."""
        ...


@dataclass(frozen=True)
class Tensor:
    """One input or output of a shipped artifact, as an app sees it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Interface:
    """How an app feeds an artifact and reads it; becomes part of `contract.json`.

    `scale` is what the app multiplies 0..255 pixels with before it hands them over
    (1.0 where the artifact scales inside). `confidence` and `iou` are the thresholds of the
    artifact's own non-maximum suppression, None where that is the app's. `layers` says of every
    convolution in which form it is stored or computed ("fp16", "int8", "4-bit palette").
    """

    entry: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    scale: float
    note: str = ""
    confidence: float | None = None
    iou: float | None = None
    layers: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Backend(Protocol):
    """The members of a plugin module.

    A plugin without devices is a source: its steps (loading, training) can be used by every
    recipe. One with devices offers its steps to the recipes that target one of them, and may have
    `REFUSED_STEPS`: by name of a step that it gains nothing from, why, as the rest of a sentence.
    """

    NAME: str
    STEPS: Sequence[Step]
    DEVICES: Sequence[Device]

    def versions(self) -> Mapping[str, str]:
        """Versions of everything that can change a step's bytes; imports no toolchain."""
        ...

    def problem(self) -> str | None:
        """Why this machine cannot run the plugin, with the remedy; None if it can."""
        ...

    def refuse(self, step: Step, params: Params, target: Target) -> str | None:
        """Why the target cannot run what the step makes, with the remedy; None if it can."""
        ...

    def open(self, artifact: Artifact, target: Target, threads: int) -> Predictor:
        """Open the artifact in the target's runtime, or the nearest that this machine has."""
        ...

    def describe(self, artifact: Artifact) -> Interface:
        """How an app uses the artifact; reads the artifact's own files."""
        ...


def installed(*distributions: str) -> dict[str, str]:
    """Versions of installed distributions by name, "missing" for those that are not."""
    return {name: _version(name) for name in distributions}


def missing(extra: str, *distributions: str) -> str | None:
    """Say which distributions are not installed and which extra brings them, or None."""
    absent = [name for name, version in installed(*distributions).items() if version == "missing"]
    if not absent:
        return None
    return f"{', '.join(absent)} not installed. Run: pip install 'yolodeploy[{extra}]'"


@cache  # reading a distribution's metadata takes milliseconds, and every step asks
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
