"""What the core needs to know about a model; the loading step writes it into its artifact."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import ValidationError

from yolodeploy.errors import StepFailed
from yolodeploy.recipe import Head
from yolodeploy.system import FILL, Fit, ImageShape, adapter

if TYPE_CHECKING:
    from yolodeploy.backend.params import Params

INFO_FILE = "info.json"
ONNX_FILE = "model.onnx"  # of a "yolo" artifact of which only the outputs are known
Known = Literal["head", "layers", "outputs"]


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, kept in `info.json`: task, class names, strides, number of parameters.

    `imgsz` is the size that it was trained at, in pixels: the side of a square, or (height, width); None
    if that is not known. `channels` is the depth of its images: 3 for RGB, 1 for grey. `single_cls` says
    that it was trained with all classes taken for one.

    `heads` are the heads that the weights hold, the one that the family is made for first, and `head` is the one
    that gives the output. That of "one-to-one" needs no non-maximum suppression. `names` are the classes of
    the output: of a model of which a recipe keeps some, those, in the recipe's order.

    `known` says how much of the model is: its "head", so that labels can train it; its "layers", so that they can be
    changed; or only its "outputs", as of an ONNX file that is passed through: the artifact then holds `model.onnx`
    instead of a graph and its weights. `obstacle` says what of that file is no layer ("node /decoder/Sample
    (GridSample)").

    `kpt_shape` is the number of keypoints of a pose, and of the numbers of each: 2 (x, y) or 3 (with visibility).

    `fit` and `fill` say how images get the size that the model takes, see `ImageShape`.
    """

    task: str
    names: tuple[str, ...]
    strides: tuple[int, ...]
    parameters: int
    imgsz: int | tuple[int, int] | None = None
    channels: int = 3
    single_cls: bool = False
    head: Head = "one-to-many"
    heads: tuple[Head, ...] = ("one-to-many",)
    known: Known = "head"
    obstacle: str = ""
    fit: Fit = "center"
    fill: int = FILL
    kpt_shape: tuple[int, int] | None = None

    def images(self, size: ImageShape) -> ImageShape:
        """The images that the model takes at a size: as deep as it needs, and fitted as it was trained."""
        return replace(size, channels=self.channels, fit=self.fit, fill=self.fill)

    def plain(self) -> dict[str, Any]:
        """The fields as plain data; those that have their default are left out."""
        defaults = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        return {k: v for k, v in asdict(self).items() if k not in defaults or v != defaults[k]}

    def write(self, folder: Path) -> None:
        """Write `folder/info.json`."""
        text = json.dumps(self.plain(), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / INFO_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `folder/info.json`; StepFailed if it is not what `write` writes."""
        file = folder / INFO_FILE
        try:
            return adapter(cls).validate_json(file.read_bytes(), strict=True)
        except (OSError, ValidationError) as error:
            raise StepFailed(
                f"{file} is damaged ({type(error).__name__}). Build it again."
            ) from error


NO_MODEL = ModelInfo("detect", (), (), 0)  # before weights are loaded


@runtime_checkable
class Inspecting(Protocol):
    """A plugin that loads weights and can say what they are without loading them into an artifact.

    Planning asks it, so a recipe may leave `imgsz` out, and weights that cannot be used are refused
    before anything runs. The answer is remembered by the digest of the weights and `versions()`.
    """

    def facts(self, weights: Path, params: Params) -> ModelInfo:
        """Read a weights file safely, in seconds; raises ModelError if the loading step would refuse it.

        `params` are those of the loading step as far as the recipe alone decides them.
        """


def misfit(what: str, theirs: ModelInfo, ours: ModelInfo) -> str | None:
    """Why a model `what` cannot teach another, as a sentence with the remedy; None if it can.

    It may know more classes, in any order, and be of another family. Of a model without a known head, the strides
    say nothing of its outputs.
    """
    if theirs.task != ours.task:
        return f"the {what} is for `{theirs.task}`, the model for `{ours.task}`. Use a teacher for the task of the model."
    if theirs.kpt_shape != ours.kpt_shape:
        return (
            f"the {what} has the `kpt_shape` {list(theirs.kpt_shape or ())}, the model {list(ours.kpt_shape or ())}. Use a "
            "teacher that was trained for the keypoints of the model."
        )
    missing = [name for name in ours.names if name not in theirs.names]
    if missing:
        return (
            f"the {what} tells {len(theirs.names)} classes apart ({_first(theirs.names)}), and `{missing[0]}` is none "
            "of them. Use a teacher that was trained for all classes of the model."
        )
    if theirs.channels != ours.channels:
        return (
            f"the {what} takes images of {theirs.channels} channels, the model {ours.channels}. Use a teacher that "
            "was trained on the same kind of images."
        )
    if "head" == theirs.known == ours.known and theirs.strides != ours.strides:
        their_steps, our_steps = (", ".join(map(str, info.strides)) for info in (theirs, ours))
        return (
            f"the {what} has maps of the strides {their_steps}, the model {our_steps}, so that their outputs cannot be "
            "compared. Use a teacher with the strides of the model."
        )
    return None


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
