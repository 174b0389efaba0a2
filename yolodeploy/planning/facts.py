"""What the weights say of their model: read once by the plugin that loads them, remembered by their digest.

So a plan knows the classes and the training size, and weights that cannot be used are refused before
anything runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import yolodeploy
from yolodeploy.backend import Backend, Inspecting, ModelInfo, Params, Step, problem_of
from yolodeploy.errors import (
    EnvironmentProblem,
    ModelError,
    PlanRefused,
    StepFailed,
    YolodeployError,
)
from yolodeploy.recipe import Position, RecipeFile
from yolodeploy.system import MODEL_BYTES, ImageShape, Memo, digest_of, file_digest, shown

DEFAULT_IMGSZ = 640  # what Ultralytics takes where nothing says otherwise
_REVISION = 4  # raise it when what plugins read or `ModelInfo` changes
_LEAST, _MOST = 32, 4096  # of a side in pixels, as in recipes
_TYPE = TypeAdapter(ModelInfo)
Loader = tuple[Backend, Step]  # a plugin, and the step of it that loads weights


class WeightsFacts:
    """Reads the facts of weights; `memo` remembers those that could be read.

    `elsewhere`, if set, lets another process read them first: that needs a toolchain, and may crash.
    """

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self.elsewhere: Callable[[], None] | None = None
        self._found: dict[str, ModelInfo | YolodeployError] = {}

    def of(
        self, loader: Loader, weights: Path, digest: str, at: Position, params: Params | None = None
    ) -> ModelInfo | None:
        """The facts of a weights file that has this digest and is named at a place of a recipe.

        `params` are those of the loading step as far as the recipe alone decides them; left out, as if it said nothing.

        None if the plugin that loads it reads none, or cannot run here. Raises what the plugin says of a
        file that cannot be used.
        """
        backend, step = loader
        if not isinstance(backend, Inspecting) or problem_of(backend):
            return None
        reader = [_REVISION, yolodeploy.__version__, backend.NAME, step.name, step.revision]
        versions = dict(backend.versions())
        params = params or step.params()
        stated = params.model_dump(mode="json")
        key = digest_of(
            {"facts": reader, "weights": digest, "versions": versions, "stated": stated}
        )
        if key not in self._found:
            self._found[key] = (
                self._remembered(key)
                or self._read_elsewhere(key)
                or self._read(key, backend, weights, digest, params)
            )
        found = self._found[key]
        if isinstance(found, YolodeployError):
            raise type(found)(f"{at}: {found}") from found
        return found

    def save(self) -> None:
        """Keep what is new for later runs."""
        self._memo.save()

    def reload(self) -> None:
        """Take over what another process has kept meanwhile."""
        self._memo.reload()

    def _read_elsewhere(self, key: str) -> ModelInfo | None:
        if self.elsewhere is None:
            return None
        self.elsewhere()
        return self._remembered(key)

    def _remembered(self, key: str) -> ModelInfo | None:
        try:
            return _TYPE.validate_python(self._memo.get(key))
        except ValidationError:
            return None

    def _read(
        self, key: str, backend: Inspecting, weights: Path, digest: str, params: Params
    ) -> ModelInfo | YolodeployError:
        found = _read(backend, weights, digest, params)
        if isinstance(found, ModelInfo):
            self._memo.put(key, found.plain())
        return found


def _read(
    backend: Inspecting, weights: Path, digest: str, params: Params
) -> ModelInfo | YolodeployError:
    try:
        found = backend.facts(weights, params)
        if file_digest(weights, MODEL_BYTES) != digest:
            return ModelError(f"{shown(weights)} changed meanwhile. Run again when it is complete.")
    except YolodeployError as error:
        return error
    except MemoryError:
        return EnvironmentProblem(f"reading {shown(weights)} ran out of memory")
    except Exception as error:  # noqa: BLE001 - a plugin may fail in any way
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return StepFailed(f"reading {shown(weights)} failed: {text}")
    return found


def chosen_imgsz(file: RecipeFile, loader: Loader, facts: ModelInfo | None) -> ImageShape:
    """The size of the input: the recipe's, else the one that the model was trained at.

    Raises PlanRefused for a size that the model's coarsest stride does not divide. If the recipe says none, raises
    PlanRefused for a training size that no recipe may have, and EnvironmentProblem if the plugin that would read it cannot run here.
    """
    if file.recipe.model.imgsz is not None:
        return _stated_imgsz(file, file.recipe.model.imgsz, facts)
    backend, _ = loader
    if isinstance(backend, Inspecting) and (problem := problem_of(backend)):
        raise EnvironmentProblem(
            f"{file.where('model')}: `imgsz` is left out, so it is the size that the model was trained at. To read "
            f"that, the {backend.NAME} backend must run here: {problem}"
        )
    trained = _trained(facts)
    if facts is None or trained is None:
        return ImageShape.square(DEFAULT_IMGSZ)
    if _usable(trained, facts):
        return trained
    raise PlanRefused(
        f"{file.where('model')}: `imgsz` is left out, and the model was trained at {_px(trained)}, which is no size "
        f"to run it at. Write `imgsz: {DEFAULT_IMGSZ}` or another multiple of {_step(facts)}."
    )


def _stated_imgsz(file: RecipeFile, imgsz: ImageShape, facts: ModelInfo | None) -> ImageShape:
    step = _step(facts) if facts else 1
    for side in (imgsz.height, imgsz.width):
        if side % step:
            below = side // step * step
            nearest = f"{below} or {below + step}" if below else str(step)
            raise PlanRefused(
                f"{file.where('model', 'imgsz')}: {side} is not a multiple of {step}, the coarsest stride of this model. "
                f"Use {nearest}."
            )
    return imgsz


def size_note(facts: ModelInfo | None, imgsz: ImageShape) -> str | None:
    """What to say if a model runs at another size than it was trained at; None if it does not.

    A rectangle is cut from the square of its longer side: objects have the same size in both.
    """
    trained = _trained(facts)
    if trained is None or _longer(trained) == _longer(imgsz):
        return None
    return f"the model was trained at {_px(trained)} and runs at {_px(imgsz)}, which usually costs accuracy"


def size_warning(file: RecipeFile, facts: ModelInfo | None, imgsz: ImageShape) -> str | None:
    """The same with its place and remedy, or what was taken because neither recipe nor weights say a size."""
    if note := size_note(facts, imgsz):
        trained = _trained(facts)
        takes = facts is not None and trained is not None and _usable(trained, facts)
        remedy = " Leave `imgsz` out to take the training size." if takes else ""
        return f"{file.where('model', 'imgsz')}: {note}.{remedy}"
    if facts is None or facts.imgsz is not None or file.recipe.model.imgsz is not None:
        return None
    return (
        f"{file.where('model')}: {shown(file.recipe.model.weights)} does not say at which size the model was "
        f"trained, so {_px(imgsz)} are taken. Write the size as `imgsz`."
    )


def _trained(facts: ModelInfo | None) -> ImageShape | None:
    if facts is None or facts.imgsz is None:
        return None
    size = facts.imgsz
    return ImageShape(*size) if isinstance(size, tuple) else ImageShape.square(size)


def _usable(trained: ImageShape, facts: ModelInfo) -> bool:
    """Whether a recipe may have the training size."""
    sides = trained.height, trained.width
    return all(_LEAST <= side <= _MOST and side % _step(facts) == 0 for side in sides)


def _step(facts: ModelInfo) -> int:
    return max(facts.strides, default=_LEAST)


def _longer(shape: ImageShape) -> int:
    return max(shape.height, shape.width)


def _px(shape: ImageShape) -> str:
    square = shape.height == shape.width
    return f"{shape.height} px" if square else f"{shape.height} x {shape.width} px"
