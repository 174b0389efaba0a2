"""Which training works on a model and its labels, also where of its head only the output is known, and which needs labels at all.

A loss on labels needs what a head decodes its boxes from. Where that is not known, a model still learns to give
what a teacher gives.
"""

from __future__ import annotations

from yolodeploy.backend import ModelInfo, Params
from yolodeploy.data import Dataset
from yolodeploy.system import shown
from yolodeploy_torch.params import Distill, Prune, Taught, Training

_TEACHER = ".pt"
_WHY = "needs a head that is known, and of this model only the layers and the output are"


def fits_model(params: Params, model: ModelInfo) -> str | None:
    """Why a step cannot work on this model with these parameters, with the remedy; None if it can."""
    reason = None
    if (
        isinstance(params, Distill)
        and params.teacher
        and params.teacher.file.suffix.lower() != _TEACHER
    ):
        reason = (
            f"`teacher: {params.teacher.file.name}` is no checkpoint ({_TEACHER}). Name one, or leave `teacher` out to "
            "learn from the model as it was loaded."
        )
    elif model.task != "detect" and model.known != "head":
        reason = _fits_open(params, model.task)
    elif model.known == "head":
        reason = _fits_classes(params) if model.task == "classify" else None
    elif isinstance(params, Prune):
        reason = _fits_prune(params)
    elif isinstance(params, Taught):
        reason = _fits_taught(params)
    elif isinstance(params, Training):
        reason = (
            f"`finetune` learns from labels, which {_WHY}. Use `distill` with labels: 0, which learns from the "
            "model as it was loaded."
        )
    return reason


def _fits_classes(params: Params) -> str | None:
    """An image of a classification model has one class, so that it cannot be joined with others."""
    how = _trains(params)
    if how is None or not how.augment.mosaic:
        return None
    return (
        f"`augment: mosaic: {how.augment.mosaic:g}` joins four images, and this model says of what class one is. Write "
        "mosaic: 0, or leave it out."
    )


def fits_labels(params: Params, view: Dataset) -> str | None:
    """Why a step cannot learn from the labels of these training images, with the remedy; None if it can."""
    how, keypoints = _trains(params), view.keypoints
    if how is None or not how.gains.labels or view.task != "pose" or keypoints is None:
        return None
    mirrors = [name for name in ("flip", "flip_vertical") if getattr(how.augment, name)]
    if not mirrors or keypoints.flip or keypoints.count == 1:
        return None
    chance = getattr(how.augment, mirrors[0])
    return (
        f"`augment: {mirrors[0]}: {chance:g}` mirrors images, which makes a right eye of a left one, and {shown(view.file)} "
        f"does not say which keypoint each becomes. Add `flip_idx` to it, or write `augment: {{{mirrors[0]}: 0}}`."
    )


def _trains(params: Params) -> Training | None:
    """How a step trains, if it does."""
    if isinstance(params, Prune):
        return params.finetune
    return params if isinstance(params, Training) else None


def _fits_open(params: Params, task: str) -> str | None:
    """What masks, keypoints and angles are decoded from is not known, so that they cannot be compared either."""
    if isinstance(params, Prune):
        return _fits_prune(params) and (
            f"`prune` of this model for `{task}` cannot train, which {_WHY}. Cut by importance: magnitude or bn_scale, "
            "without `finetune`."
        )
    if isinstance(params, Training):
        return f"`{type(params).__name__.lower()}` of a model for `{task}` {_WHY}. Remove the step."
    return None


def _fits_prune(params: Prune) -> str | None:
    if params.importance == "taylor":
        return (
            f"`importance: taylor` rates channels by the loss on labels, which {_WHY}. Write importance: magnitude "
            "or bn_scale, which need no labels."
        )
    if params.finetune:
        return (
            f"`finetune` in `prune` learns from labels, which {_WHY}. Remove it, cut by importance: magnitude or "
            "bn_scale alone, and put `distill` with labels: 0 after it."
        )
    return None


def _fits_taught(params: Taught) -> str | None:
    if params.labels:
        return f"`labels: {params.labels:g}` is a loss on labels, which {_WHY}. Write labels: 0, to learn from the teacher."
    if isinstance(params, Distill) and params.teacher and params.feature:
        return (
            f"`feature: {params.feature:g}` compares the maps that two heads read, and of this model the head is not "
            "known. Write feature: 0, or leave `teacher` out."
        )
    return None


def labels_for(params: Params) -> str | None:
    """What a step reads the labels of training images for; None if it needs none."""
    if not isinstance(params, Taught) or params.labels:
        return "learns from labels"
    if params.holdout:
        return "rates its epochs by labels (holdout: 0 takes the last, and needs none)"
    return None
