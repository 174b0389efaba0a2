"""The step `prune`: a model -> a smaller dense model, whole channels of it cut away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import StepFailed
from yolodeploy_torch import folder
from yolodeploy_torch.channels import Channels, Group, channels
from yolodeploy_torch.compute import threads
from yolodeploy_torch.cut import cut, taken
from yolodeploy_torch.finetune import fit, write_history
from yolodeploy_torch.importance import importance, relative
from yolodeploy_torch.modules import Yolo
from yolodeploy_torch.params import Prune
from yolodeploy_torch.recalibrate import moments, recalibrate
from yolodeploy_torch.selection import Limits, Sizes, Spend, choose_by_layer, choose_global, keep
from yolodeploy_torch.taylor import taylor

IMAGES = 16  # in one batch; their statistics settle the normalisations


def prune(artifact: Artifact, params: Prune, context: Context) -> Path:
    """Write the pruned model; its normalisations are re-estimated on calibration images.

    Raises StepFailed if the target cannot be met, or the criterion does not tell channels apart, and what
    `finetune` raises if it trains.
    """
    model = folder.read(artifact.path)
    goal = _Goal.of(channels(model.arch), params)
    for number in range(params.iterations):
        share = params.keep ** ((number + 1) / params.iterations)
        with threads(1):  # so that the sums do not depend on the number of threads
            model = _cut_to(share, model, goal, _part(context, params, number, 0.0, 0.1))
        if params.finetune:
            own = _part(context, params, number, 0.1, 1.0)
            model, history = fit(model, params.finetune, own)
            write_history(context.work, history, f"training-{number + 1}.json")
    folder.write(context.work, model.arch, model.state_dict())
    return context.work


@dataclass(frozen=True)
class _Goal:
    """What was asked for, and what it is measured by in the model before the first cut."""

    params: Prune
    limits: Limits
    whole: float

    @classmethod
    def of(cls, found: Channels, params: Prune) -> _Goal:
        limits = Limits.of(found, params.multiple, params.least)
        return cls(params, limits, _cost(found, params)(found.sizes))

    def sizes(self, found: Channels, scores: Mapping[Group, Tensor], share: float) -> Sizes:
        """The sizes that leave at most a share of the model."""
        cost = _cost(found, self.params)

        def spend(sizes: Sizes) -> float:
            return cost(sizes) / self.whole

        if self.params.scope == "layer":
            return choose_by_layer(found, self.limits, spend, share)
        return choose_global(found, _per_cost(found, scores), self.limits, spend, share)


def _part(context: Context, params: Prune, number: int, start: float, end: float) -> Context:
    """The context of a part of a round, with its share of the progress and a folder of its own to resume."""

    def progress(done: float, text: str) -> None:
        round_ = f"round {number + 1}/{params.iterations}: " if params.iterations > 1 else ""
        share = (number + start + done * (end - start)) / params.iterations
        context.progress(share, f"{round_}{text}")

    resume = context.resume / f"round-{number + 1}" if context.resume else None
    return replace(context, progress=progress, resume=resume)


def _cut_to(share: float, model: Yolo, goal: _Goal, context: Context) -> Yolo:
    """The model with the least important channels gone and the normalisations mended."""
    found = channels(model.arch)
    scores = _scores(model, found, goal.params, context)
    kept = keep(goal.sizes(found, scores, share), scores)
    smaller = folder.rebuild(*cut(model.arch, model.state_dict(), found, kept))
    view = context.data["calibration"].spread(IMAGES)
    context.progress(0.9, f"statistics of {len(view)} images")
    images = torch.cat([torch.from_numpy(image) for image in view.letterboxed(context.imgsz)])
    before = moments(model, images)
    wanted = {name: now.take(taken(found, name, kept)) for name, now in before.items()}
    recalibrate(smaller, images, wanted)
    return smaller


def _scores(model: Yolo, found: Channels, params: Prune, context: Context) -> dict[Group, Tensor]:
    if params.importance == "taylor":
        changes = taylor(model, found, context.data["training"], context.imgsz, context.progress)
        # squared changes of one loss compare across groups as they are: a mean would hide that a
        # whole group hardly matters
        return {group: change.square() for group, change in changes.items()}
    scores = importance(params.importance, found, model.state_dict(), model.arch.eps)
    if all(score.min() == score.max() for score in scores.values()):
        raise StepFailed(
            f"`importance: {params.importance}` rates all channels alike: the checkpoint's batch "
            "normalisations were folded into its convolutions. Use importance: magnitude."
        )
    return relative(scores)


def _per_cost(found: Channels, scores: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
    """Importance for each multiply-accumulate that cutting a channel of the group saves."""
    whole = found.macs(found.sizes, 1)
    saved = {
        group: whole - found.macs({**found.sizes, group: group.size - 1}, 1) for group in scores
    }
    return {group: score * whole / saved[group] for group, score in scores.items()}


def _cost(found: Channels, params: Prune) -> Spend:
    match params.of:
        case "flops":
            return lambda sizes: found.macs(sizes, 1)
        case "parameters":
            return found.weights
        case "channels":
            return lambda sizes: sum(n for group, n in sizes.items() if not group.fixed)
