"""The step `prune`: a model -> a smaller dense model, whole channels of it cut away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import StepFailed
from yolodeploy_torch import folder
from yolodeploy_torch.arch import Arch
from yolodeploy_torch.channels import Channels, Group, channels
from yolodeploy_torch.compute import threads
from yolodeploy_torch.cut import cut, taken
from yolodeploy_torch.importance import importance
from yolodeploy_torch.params import Prune
from yolodeploy_torch.recalibrate import Moments, moments, recalibrate
from yolodeploy_torch.selection import Limits, Sizes, Spend, choose_by_layer, choose_global, keep

IMAGES = 16  # in one batch; their statistics settle the normalisations


def prune(artifact: Artifact, params: Prune, context: Context) -> Path:
    """Write the pruned model; its normalisations are re-estimated on calibration images.

    Raises StepFailed if the target cannot be met, or the criterion does not tell channels apart.
    """
    model = folder.read(artifact.path)
    state = model.state_dict()
    found = channels(model.arch)
    scores = importance(params.importance, found, state, model.arch.eps)
    _require_different(scores, params)
    sizes = _sizes(found, scores, params)
    kept = keep(sizes, scores)
    arch, smaller = cut(model.arch, state, found, kept)
    view = context.data["calibration"].spread(IMAGES)
    context.progress(0.3, f"statistics of {len(view)} images")
    with threads(1):  # so that the sums do not depend on the number of threads
        images = torch.cat([torch.from_numpy(image) for image in view.letterboxed(context.imgsz)])
        before = moments(model, images)
        _recalibrate(
            arch, smaller, {n: before[n].take(taken(found, n, kept)) for n in before}, images
        )
    folder.write(context.work, arch, smaller)
    return context.work


def _recalibrate(
    arch: Arch, state: dict[str, Tensor], wanted: Mapping[str, Moments], images: Tensor
) -> None:
    """Update the running statistics in `state`."""
    model = folder.rebuild(arch, state)  # shares the tensors
    recalibrate(model, images, wanted)


def _require_different(scores: Mapping[Group, Tensor], params: Prune) -> None:
    """Refuse a criterion that rates all channels of all groups alike."""
    if all(float(score.std(correction=0)) == 0 for score in scores.values()):
        raise StepFailed(
            f"`importance: {params.importance}` rates all channels alike: the checkpoint's batch "
            "normalisations were folded into its convolutions. Use importance: magnitude."
        )


def _sizes(found: Channels, scores: Mapping[Group, Tensor], params: Prune) -> Sizes:
    limits = Limits(params.multiple, params.least)
    cost = _cost(found, params)
    whole = cost(found.sizes)

    def spend(sizes: Sizes) -> float:
        return cost(sizes) / whole

    if params.scope == "layer":
        return choose_by_layer(found, limits, spend, params.keep)
    return choose_global(found, _per_cost(found, scores), limits, spend, params.keep)


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
