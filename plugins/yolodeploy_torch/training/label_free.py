"""Which training works on a model of another task, or of whose head only the output is known, and which needs labels at all.

A loss on labels needs what a head decodes its boxes from. Where that is not known, a model still learns to give
what a teacher gives.
"""

from __future__ import annotations

from yolodeploy.backend import ModelInfo, Params
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
    elif model.task != "detect":
        reason = _fits_task(params, model.task)
    elif model.known == "head":
        return None
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


def _fits_task(params: Params, task: str) -> str | None:
    """The losses on labels are those of boxes; what a teacher gives, and weights, need none."""
    if isinstance(params, Taught):
        if not params.labels:
            return None
        return (
            f"`labels: {params.labels:g}` is a loss on the labels of detection models, and this model is for `{task}`. "
            "Write labels: 0, to learn from the teacher."
        )
    if isinstance(params, Training):
        return (
            f"`finetune` learns from labels of detection models, and this model is for `{task}`. Use `distill` with "
            "labels: 0, which learns from the model as it was loaded."
        )
    if isinstance(params, Prune) and params.importance == "taylor":
        return (
            f"`importance: taylor` rates channels by the loss of detection models, and this model is for `{task}`. Write "
            "importance: magnitude or bn_scale."
        )
    if isinstance(params, Prune) and params.finetune:
        return (
            f"`finetune` in `prune` trains detection models, and this model is for `{task}`. Remove it, and put "
            "`distill` with labels: 0 after it."
        )
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
