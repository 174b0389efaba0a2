"""The step `prune`: cuts whole channels out of a model, which leaves a smaller dense one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from yolodeploy.backend import Artifact, Context
from yolodeploy.errors import StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Graph, build, graph_in
from yolodeploy_torch.model import Group, Structure, channel_groups, read, threads, write_module
from yolodeploy_torch.params import Prune
from yolodeploy_torch.pruning.cost import Cost, channels, flops, weights
from yolodeploy_torch.pruning.importance import importance, relative, taylor
from yolodeploy_torch.pruning.recalibration import recalibrate
from yolodeploy_torch.pruning.selection import (
    Limits,
    Sizes,
    Spend,
    choose_by_layer,
    choose_global,
    keep_best,
)
from yolodeploy_torch.pruning.shrink import Cut, shrink
from yolodeploy_torch.training import fit, write_history

IMAGES = 16  # in one batch, that the model is mended on


def prune(artifact: Artifact, params: Prune, context: Context) -> Path:
    """Write the pruned model; its convolutions are mended on calibration images.

    Raises StepFailed if the target cannot be met or the criterion rates all channels alike; with
    `finetune` also what `train` raises.
    """
    model = read(artifact.path)
    goal = _Goal.of(graph_in(model), params, context.imgsz)
    for number in range(params.iterations):
        share = params.keep ** ((number + 1) / params.iterations)
        with threads(1):  # so that the sums do not depend on the number of threads
            model = _cut_to(share, model, goal, _round_part(context, params, number, 0.0, 0.1))
        if params.finetune:
            own = _round_part(context, params, number, 0.1, 1.0)
            model, history = fit(model, params.finetune, own)
            write_history(context, history, f"training-{number + 1}.json")
    write_module(context.work, model)
    return context.work


@dataclass(frozen=True)
class _Goal:
    """What was asked for, and the cost of the whole model, which it is a share of."""

    params: Prune
    imgsz: ImageShape
    limits: Limits
    whole: float

    @classmethod
    def of(cls, graph: Graph, params: Prune, imgsz: ImageShape) -> _Goal:
        found = channel_groups(graph)
        limits = Limits.of(found, params.multiple, params.least)
        return cls(params, imgsz, limits, _cost(graph, found, params, imgsz)(found.sizes))

    def sizes(
        self, graph: Graph, found: Structure, scores: Mapping[Group, Tensor], share: float
    ) -> Sizes:
        """The sizes that leave at most a share of the model."""
        cost = _cost(graph, found, self.params, self.imgsz)

        def spend(sizes: Sizes) -> float:
            return cost(sizes) / self.whole

        if self.params.scope == "layer":
            return choose_by_layer(found, scores, self.limits, spend, share)
        saving = _per_cost(flops(graph, found, self.imgsz), found, scores)
        return choose_global(found, saving, self.limits, spend, share)


def _round_part(context: Context, params: Prune, number: int, start: float, end: float) -> Context:
    """The context for a part of a round: its share of the progress, and its own folder for resuming."""
    round_ = f"round {number + 1}/{params.iterations}: " if params.iterations > 1 else ""

    def progress(done: float, text: str) -> None:
        share = (number + start + done * (end - start)) / params.iterations
        context.progress(share, f"{round_}{text}")

    def note(text: str) -> None:
        context.note(f"{round_}{text}")

    resume = context.resume / f"round-{number + 1}" if context.resume else None
    return replace(context, progress=progress, note=note, resume=resume)


def _cut_to(share: float, model: GraphModule, goal: _Goal, context: Context) -> GraphModule:
    """Remove the least important channels and mend what is left."""
    graph = graph_in(model)
    found = channel_groups(graph)
    scores = _scores(model, found, goal.params, context)
    kept = keep_best(goal.sizes(graph, found, scores, share), scores)
    smaller = build(*shrink(graph, model.state_dict(), found, kept))
    view = context.data["calibration"].spread(IMAGES)
    context.progress(0.9, f"statistics of {len(view)} images")
    images = torch.cat([torch.from_numpy(image) for image in view.letterboxed(context.imgsz)])
    recalibrate(smaller, model, images, Cut(found, kept).stay)
    return smaller


def _scores(
    model: GraphModule, found: Structure, params: Prune, context: Context
) -> dict[Group, Tensor]:
    if params.importance == "taylor":
        changes = taylor(model, found, context.data["training"], context.imgsz, context.progress)
        # squared changes of one loss compare across groups as they are; dividing by the mean would
        # hide that a whole group hardly matters
        return {group: change.square() for group, change in changes.items()}
    scores = importance(params.importance, graph_in(model), found, model.state_dict())
    if scores and all(score.min() == score.max() for score in scores.values()):
        raise StepFailed(
            f"`importance: {params.importance}` rates all channels alike: the checkpoint's batch "
            "normalisations were folded into its convolutions. Use importance: magnitude."
        )
    return relative(scores)


def _per_cost(cost: Cost, found: Structure, scores: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
    """Importance for each multiply-accumulate that cutting a channel of the group saves."""
    whole = cost(found.sizes)
    saved = {group: whole - cost({**found.sizes, group: group.size - 1}) for group in scores}
    return {group: score * whole / saved[group] for group, score in scores.items()}


def _cost(graph: Graph, found: Structure, params: Prune, imgsz: ImageShape) -> Spend:
    match params.of:
        case "flops":
            return flops(graph, found, imgsz)
        case "parameters":
            return weights(graph, found, imgsz)
        case "channels":
            return channels(graph, found)
