"""What `yolodeploy inspect` learns of a file, and which plugin it asks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from yolodeploy.backend.contract import FLOPS_PER_MAC, Backend, Step
from yolodeploy.backend.model_info import Inspecting, ModelInfo
from yolodeploy.backend.registry import Registry, problem_of
from yolodeploy.errors import EnvironmentProblem, ModelError, StepFailed, YolodeployError
from yolodeploy.system import ImageShape, shown


@dataclass(frozen=True)
class PartCount:
    """One part of a model: its layers with kernels, its parameters, and multiply-accumulates for one image.

    `forms` says how many of the layers are stored in which form ("fp16", "int8", "4-bit palette"). A count that the
    file does not tell is None.
    """

    part: str
    layers: int
    parameters: int | None = None
    macs: int | None = None
    forms: Mapping[str, int] = field(default_factory=dict)

    @property
    def flops(self) -> int | None:
        """Floating-point operations for one image."""
        return None if self.macs is None else FLOPS_PER_MAC * self.macs


@dataclass(frozen=True)
class Inspected:
    """What a file says of its model. What it does not say is None or empty.

    `kind` is what the file is, for people, and `format` the artifact format or suffix that steps accept. `family` and
    `scale` are such as "YOLO11" and "n". `macs` are the multiply-accumulates for one image of `imgsz`; `stored` is the
    size of the weights in bytes, by form. `trained_on` is the data set as the training named it: a path or a name. `weights_checked` says that every weight was read and is finite. `notes` are sentences on what else matters.
    """

    kind: str
    format: str
    info: ModelInfo | None = None
    family: str = ""
    scale: str = ""
    parameters: int | None = None
    macs: int | None = None
    imgsz: ImageShape | None = None
    parts: tuple[PartCount, ...] = ()
    stored: Mapping[str, int] = field(default_factory=dict)
    trained_on: str = ""
    weights_checked: bool = False
    notes: tuple[str, ...] = ()

    @property
    def flops(self) -> int | None:
        """Floating-point operations for one image."""
        return None if self.macs is None else FLOPS_PER_MAC * self.macs


@runtime_checkable
class Examining(Protocol):
    """A plugin that can say what a file is: weights that it loads, or an artifact that it makes."""

    def inspect(self, path: Path) -> Inspected | None:
        """Read a file or folder without running anything of it; None if it is of another kind.

        Raises ModelError or StepFailed, with the reason in one sentence, if it is damaged.
        """


def inspect_file(path: Path, registry: Registry) -> Inspected:
    """What a weights file or an artifact is, as a plugin says; raises ModelError if none can read it."""
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path's, it takes any text
        raise ModelError(f"{shown(path)} does not exist. Check the path.")
    folder = path / "data"  # of an object in the store
    place = folder if (path / "meta.json").is_file() and folder.is_dir() else path
    for backend in _askable(place, registry):
        if found := _asked(backend, place):
            return found
    raise ModelError(_unread(path, registry))


def _askable(path: Path, registry: Registry) -> Iterable[Backend]:
    """The plugins that may know a file, those that load files of its suffix first."""
    return sorted(registry.backends.values(), key=lambda backend: not _loads(backend, path))


def _loads(backend: Backend, path: Path) -> bool:
    return path.is_file() and _loader(backend, path) is not None


def _loader(backend: Backend, path: Path) -> Step | None:
    suffix = path.suffix.lower()
    reading = (step for step in backend.STEPS if not step.executes)
    return next((step for step in reading if step.accepts == suffix), None)


def _asked(backend: Backend, path: Path) -> Inspected | None:
    try:
        if isinstance(backend, Examining):
            return backend.inspect(path)
        step = _loader(backend, path) if path.is_file() else None
        if isinstance(backend, Inspecting) and step:
            info = backend.facts(path, step.params())
            kind = f"{path.suffix.lower()} file"
            return Inspected(kind, path.suffix.lower(), info, parameters=info.parameters)
    except YolodeployError:
        raise
    except MemoryError:
        raise EnvironmentProblem(f"reading {shown(path)} ran out of memory") from None
    except Exception as error:
        if problem := problem_of(backend):
            raise EnvironmentProblem(
                f"reading {shown(path)} needs the {backend.NAME} backend: {problem}"
            ) from error
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise StepFailed(f"reading {shown(path)} failed: {text}") from error
    return None


def _unread(path: Path, registry: Registry) -> str:
    """That no plugin reads a file, and what they do read."""
    suffix = path.suffix.lower()
    steps = [step for backend in registry.backends.values() for step in backend.STEPS]
    weights = sorted({step.accepts for step in steps if step.accepts.startswith(".")})
    makers = [name for name, b in registry.backends.items() if isinstance(b, Examining)]
    if path.is_file() and suffix in weights:
        owner = next(name for name, b in registry.backends.items() if _loads(b, path))
        return f"the {owner} backend loads {suffix} files, but cannot inspect them: {shown(path)}"
    what = f"no installed plugin reads {suffix} files" if path.is_file() and suffix else ""
    return (
        f"{shown(path)} cannot be inspected: {what or 'it is nothing that an installed plugin made'}. Name a weights "
        f"file ({', '.join(weights) or 'none is loadable'}), an artifact of {', '.join(makers) or 'no backend'}, or a "
        "bundle that `yolodeploy deploy` wrote."
    )
