"""The contract that a plugin satisfies: a module with tables and plain functions.

A plugin is found through the entry point group `yolodeploy.backends`. Importing it must import no
toolchain: heavy imports go inside its functions. docs/adding-a-backend.md walks through a complete one.

`Backend` lists the members that every plugin has. A plugin may also have:

* `count`, see `Counting`: parameters and operations of a model, from a plugin that changes models;
* `facts`, see `Inspecting` in model_info.py: what a weights file says of its model, from a plugin that loads weights;
* `inspect`, see `Examining` in inspected.py: what a weights file or an artifact is, for `yolodeploy inspect`;
* `layer_bytes`, see `Weighing`: what each layer takes in an artifact's files, for the report;
* `parts`, see `Parted`: the parts of an artifact's files, for `yolodeploy reproduce`;
* `REFUSED_STEPS`, on a plugin with devices: the steps that gain nothing on them. It maps the name of a
  step to the reason, as the rest of a sentence;
* `REFUSED_PARAMETERS`, likewise: parameters of its steps that other backends have. It maps the name of a step to a
  mapping from parameters to reasons;
* `SUGGESTED` and `advise`, see `Advising` in advice.py: what `yolodeploy init` begins with on its devices;
* `gpu_here`, see `Accelerated` in device.py: the GPU of this machine, from a plugin whose devices have `gpus`;
* `WORKER` and `remote`, see `Portable` in remote.py: a module that runs artifacts on hosts with Python;
* `find_native` and `native_job`, see `Native` in remote.py: a program that runs them where there is none;
* `serve`, see `Serving`: opens artifacts for many images a second, where the runtime works on several at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from yolodeploy.backend.device import Device, Target
from yolodeploy.backend.interface import Interface, LayerBytes
from yolodeploy.backend.predictor import Predictor, Server
from yolodeploy.system import ImageShape, installed

if TYPE_CHECKING:
    from yolodeploy.backend.model_info import ModelInfo
    from yolodeploy.backend.params import Params
    from yolodeploy.data import Dataset
    from yolodeploy.recipe import Head

FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Artifact:
    """A finished result of a step: a folder of files in one format.

    `path` is the folder (read only: it lies in the store) and `digest` the sha256 of its tree. `format`
    must be what the next step `accepts`.
    """

    format: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Context:
    """What a running step gets besides its input and parameters.

    `work` is an empty folder; the step returns that folder or one below it. `imgsz` is the height and width
    of the input in pixels, and its channels. `model` is what the loading step says of the model (`NO_MODEL` for that step
    itself); `names` are its class names and `head` is the head that gives its output. `data` holds
    the views that the step named in `reads`. `progress(done, text)` takes a fraction in 0..1; a text
    that begins with "12/300 images" or "epoch 3/10" gets a rate. `note(text)` says something that stays, such as the figures of an epoch.
    `memo(key, compute)` returns plain data (what JSON can hold) that an earlier run computed for the same
    key, input, tool versions and image size, or computes and keeps it; the key must name everything else
    that the data depends on. `source` is the model as loaded from the recipe's weights (None for the
    loading step). `resume` is a folder for the step's progress, to continue from after a run that was killed
    or failed. It may not exist yet, holds only what the same step wrote with the same inputs, and is
    removed once the step has a result.
    """

    work: Path
    seed: int
    imgsz: ImageShape
    threads: int
    target: Target
    model: ModelInfo
    data: Mapping[str, Dataset]
    progress: Callable[[float, str], None]
    memo: Callable[[Mapping[str, Any], Callable[[], Any]], Any] = lambda _key, compute: compute()
    source: Artifact | None = None
    resume: Path | None = None
    note: Callable[[str], None] = lambda _text: None

    @property
    def names(self) -> tuple[str, ...]:
        """The model's class names; empty for the loading step, which decides them."""
        return self.model.names

    @property
    def head(self) -> Head:
        """The head that gives the model's output."""
        return self.model.head


@dataclass(frozen=True)
class Trial:
    """One convolution to compress alone.

    `layer` is its name, `part` its part of the model, `scheme` the compression as the report calls it
    ("int8", "4 bits"), `weights` its number of weights.
    """

    layer: str
    part: str
    scheme: str
    weights: int


@dataclass(frozen=True)
class Probe:
    """The single layers that a step could compress, for measuring what each costs.

    `write(trial, folder)` fills an empty folder with the artifact in which only that layer is compressed.
    `key` is plain data: whatever decides its bytes besides the input and the trial (calibration images,
    method).
    """

    trials: tuple[Trial, ...]
    write: Callable[[Trial, Path], None]
    key: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One transform that a recipe can name.

    `accepts` and `produces` are artifact formats; a step that loads a weights file accepts its suffix (".pt"). `run`
    returns the folder with the result. Its bytes must depend only on the input, the parameters, the context and
    `versions()`; raise `revision` when they change for another reason. `reads` names the data views that the step needs
    ("calibration"), or is a function from the parameters to those names. `reference`, on an export step, gives the
    parameters of the plain float export that latency is compared with. `tools` are distributions that only this step
    uses (the backend's `versions()` go into the ids of all its steps). `probe`, on a compressing step, lets `yolodeploy
    sensitivity` measure single layers. `varies` returns why the bytes may differ from run to run with these
    parameters, or None. `then(params, rest)` returns why the steps after this one in the recipe do not fit its result,
    with the remedy, or None.

    `fits(params, model)` returns why the step cannot work on the model that the recipe loads, with the remedy, or
    None; it is asked when the weights can be read. `takes_onnx` says that the step also takes a "yolo" artifact
    of which only the outputs are known, see `ModelInfo.known`. `labels_for` returns what the step reads the labels of
    training images for, as the rest of a sentence about it, or None if it needs none ("learns from labels" if left out).
    `fits_labels(params, view)` returns why it cannot learn from the labels of the training images, with the remedy, or None.
    `executes` says that a loading step runs code of the weights: only for recipes that name it, and with `--trust-weights`.
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
    fits: Callable[[Params, ModelInfo], str | None] | None = None
    takes_onnx: bool = False
    executes: bool = False
    labels_for: Callable[[Params], str | None] = lambda _params: "learns from labels"
    fits_labels: Callable[[Params, Dataset], str | None] = lambda _params, _view: None

    def needs(self, params: Params) -> tuple[str, ...]:
        """Name the data views that the step reads with these parameters."""
        return self.reads(params) if callable(self.reads) else self.reads

    def versions(self, backend: Backend) -> dict[str, str]:
        """Collect the versions of everything that can change the bytes of this step of the backend."""
        return {**backend.versions(), **installed(*self.tools)}


@runtime_checkable
class Backend(Protocol):
    """The members that every plugin module has.

    A plugin without devices is a source: every recipe can use its steps (loading, training). One with
    devices offers its steps to the recipes that target one of them.
    """

    NAME: str
    STEPS: Sequence[Step]
    DEVICES: Sequence[Device]

    def versions(self) -> Mapping[str, str]:
        """Collect the versions of everything that can change a step's bytes; imports no toolchain."""

    def problem(self) -> str | None:
        """Say why this machine cannot run the plugin, with the remedy; None if it can."""

    def refuse(self, step: Step, params: Params, target: Target) -> str | None:
        """Say why the target cannot run what the step makes, with the remedy; None if it can."""

    def open(self, artifact: Artifact, target: Target, threads: int) -> Predictor:
        """Open the artifact in the target's runtime, or the nearest that this machine has."""

    def describe(self, artifact: Artifact) -> Interface:
        """Describe how an app uses the artifact, from the artifact's own files."""


@dataclass(frozen=True)
class Counts:
    """Parameters of a model, and multiply-accumulates for one image."""

    parameters: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiplication and an addition each."""
        return FLOPS_PER_MAC * self.macs


@runtime_checkable
class Counting(Protocol):
    """A plugin that counts what a model costs.

    Plugins with devices need not: exporting and compressing change neither figure.
    """

    def count(self, artifact: Artifact, imgsz: ImageShape) -> Counts:
        """Count parameters, and multiply-accumulates for one image of this size."""


@runtime_checkable
class Serving(Protocol):
    """A plugin whose runtime works on several requests at once."""

    def serve(self, artifact: Artifact, target: Target, threads: int) -> Server:
        """Open the artifact for throughput on so many threads, where `open` opens it for latency."""


@runtime_checkable
class Weighing(Protocol):
    """A plugin that can say where the bytes of its artifacts are."""

    def layer_bytes(self, artifact: Artifact) -> Sequence[LayerBytes]:
        """List the layers of `describe` with what each takes; what several share counts once, at the first."""


Parts = Mapping[str, str]


@runtime_checkable
class Parted(Protocol):
    """A plugin that takes its artifacts apart."""

    def parts(self, artifact: Artifact) -> Mapping[str, Parts]:
        """List the parts (op, weight, field) of files by relative path, each with its content or digest."""


def content(data: bytes) -> str:
    """Stand in for the bytes of a part: their digest."""
    return f"sha256 {hashlib.sha256(data).hexdigest()}"
