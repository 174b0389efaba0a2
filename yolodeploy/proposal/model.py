"""What a weights file says of its model, as far as a recipe needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolodeploy.backend import Inspecting, ModelInfo, Registry, inspect_file
from yolodeploy.errors import DataError, ModelError
from yolodeploy.system import ImageShape, is_file, is_folder, shown

_DEFAULT = 640  # pixels: what Ultralytics takes where nothing says otherwise
_LEAST, _MOST = 32, 4096  # pixels of a side, as in recipes
_TASKS = {
    "detect": "detection",
    "segment": "segmentation",
    "pose": "poses",
    "obb": "rotated boxes",
    "classify": "classification",
}


@dataclass(frozen=True)
class Model:
    """A weights file and its model; `trained_on` is the data set that the training named, empty if that is not known.

    `stated` is the size that the recipe must say, None where the one that the model was trained at will do; `because` says why.
    """

    path: Path
    info: ModelInfo
    family: str = ""
    scale: str = ""
    trained_on: str = ""
    stated: ImageShape | None = None
    because: str = ""

    @property
    def imgsz(self) -> ImageShape:
        """The size that the model will run at."""
        return self.stated or _shape(self.info) or ImageShape.square(_DEFAULT)

    def __str__(self) -> str:
        """As "YOLO26n for detection, 3 classes, 160 px"."""
        count = len(self.info.names)
        name = f"{self.family}{self.scale}" or "a model"
        classes = f"{count:,} class{'es' * (count != 1)}"
        size = self.imgsz
        side = f"{size.height} px" if size.height == size.width else f"{size} px"
        return f"{name} for {_TASKS.get(self.info.task, self.info.task)}, {classes}, {side}"


def read_model(path: Path, registry: Registry, names: Callable[[], Sequence[str]] | None) -> Model:
    """Read a weights file without running anything of it; `names` gives the classes of its data set.

    Raises ModelError for what no installed plugin loads.
    """
    loadable = sorted(_suffixes(registry))
    if is_folder(path):
        raise ModelError(
            f"{shown(path)} is a folder. Name the weights in it ({', '.join(loadable)})."
        )
    if is_file(path) and path.suffix.lower() not in loadable:
        raise ModelError(
            f"{shown(path)} cannot be loaded as weights. Allowed kinds: {', '.join(loadable)}."
        )
    found = inspect_file(path, registry)
    info = found.info or _of_nameless(path, registry, names)
    return _sized(Model(path, info, found.family, found.scale, found.trained_on))


def _suffixes(registry: Registry) -> set[str]:
    steps = (step for backend in registry.backends.values() for step in backend.STEPS)
    return {step.accepts for step in steps if step.accepts.startswith(".") and not step.executes}


def _of_nameless(
    path: Path, registry: Registry, names: Callable[[], Sequence[str]] | None
) -> ModelInfo:
    """The facts of a file that does not name its classes, with the classes of its data set."""
    if names is None:
        raise DataError(
            f"{shown(path)} does not name its classes, so the data set has to. Add: --data path/to/data.yaml"
        )
    for backend in registry.backends.values():
        step = next((s for s in backend.STEPS if s.accepts == path.suffix.lower()), None)
        if step and not step.executes and isinstance(backend, Inspecting):
            return backend.facts(path, step.params.model_validate({"names": tuple(names())}))
    raise ModelError(f"{shown(path)} does not say what its model is.")


def _sized(model: Model) -> Model:
    """The model with the size that a recipe must say."""
    trained, step = _shape(model.info), max(model.info.strides, default=_LEAST)
    if trained is None:
        because = f"the file does not say at which size it was trained; {_DEFAULT} px is usual"
        return replace(model, stated=ImageShape.square(_DEFAULT), because=because)
    size = ImageShape(_rounded(trained.height, step), _rounded(trained.width, step))
    if size == trained:
        return model
    because = f"trained at {trained.plain} px, and a side must be a multiple of {step}"
    return replace(model, stated=size, because=because)


def _rounded(side: int, step: int) -> int:
    """The next multiple above, as Ultralytics takes it, among the sizes that recipes may have."""
    return min(max(-(-side // step) * step, step, _LEAST), _MOST)


def _shape(info: ModelInfo) -> ImageShape | None:
    if info.imgsz is None:
        return None
    return ImageShape.of(info.imgsz)
