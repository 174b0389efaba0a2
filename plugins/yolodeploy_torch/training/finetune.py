"""The steps `finetune` and `distill`: train a model further, without a teacher and with one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
from torch.fx import GraphModule

from yolodeploy.backend import Artifact, Context, ModelInfo, misfit
from yolodeploy.errors import ModelError, StepFailed
from yolodeploy.system import write_json
from yolodeploy.tasks import task_of
from yolodeploy_torch.checkpoint import read_checkpoint_model
from yolodeploy_torch.graph import AnyNode, Constant, Conv, OpenHead, build, graph_in
from yolodeploy_torch.model import Trainable, info, keep_classes, read, write_module
from yolodeploy_torch.params import Distill, Finetune, Training
from yolodeploy_torch.training.loop import Task, train
from yolodeploy_torch.training.objective import Objective
from yolodeploy_torch.training.state import History

HISTORY_FILE = "training.json"


def finetune(artifact: Artifact, params: Finetune, context: Context) -> Path:
    """Train on the labels alone; errors as in `train`."""
    return _write_fit(*fit(read(artifact.path), params, context), context)


def distill(artifact: Artifact, params: Distill, context: Context) -> Path:
    """Train on the labels and on what the teacher gives; errors as in `train` and `read_teacher`."""
    teacher = read_teacher(params, context, ModelInfo.read(artifact.path))
    return _write_fit(*fit(read(artifact.path), params, context, teacher), context)


def fit(
    model: GraphModule, params: Training, context: Context, teacher: GraphModule | None = None
) -> tuple[GraphModule, History]:
    """Train a model by the gains of `params`; returns the trained one, without gradients.

    Its logits are trained, and its output, which is computed with the same weights, is scored.
    """
    objective = Objective(Trainable(unfreeze(model)), params, context.imgsz, teacher)
    task = Task(model, objective, objective.adapters, masks=objective.masks)
    trained, history = train(task, params, context)
    return cast("GraphModule", trained), history


def unfreeze(model: GraphModule) -> GraphModule:
    """Let the model collect gradients for everything but the fixed box expectation.

    Of an open head, whose decoding is not told from the rest, constants stay, too, and kernels that count 0, 1, 2 ...
    """
    graph = graph_in(model)
    opened = isinstance(graph.head, OpenHead)
    fixed = {
        f"{node.name}.{key}".rstrip(".")
        for node in graph.nodes
        for key in node.weights()
        if node.part == "dfl" or (opened and _decodes(model, node))
    }
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in fixed)
    return model


def _decodes(model: GraphModule, node: AnyNode) -> bool:
    """Whether a node looks like the constants of a decoding, or its mean over bins."""
    if isinstance(node, Conv) and node.channels[1] == 1:
        kernel = model.get_parameter(f"{node.name}.weight").flatten()
        return torch.equal(kernel, torch.arange(len(kernel), dtype=kernel.dtype))
    return isinstance(node, Constant)


def read_teacher(params: Distill, context: Context, student: ModelInfo) -> GraphModule:
    """The pinned checkpoint, or the model that the recipe starts from; in evaluation mode.

    Of a checkpoint that knows more classes, or the same in another order, those of the student are taken. Raises
    ModelError for one that cannot be used, or does not fit the student.
    """
    if params.teacher:
        teacher = read_checkpoint_model(params.teacher.file)
        graph = graph_in(teacher)
        if problem := misfit(f"teacher {params.teacher.file.name}", info(graph), student):
            raise ModelError(problem)
        if graph.head.names == student.names:
            return teacher
        chosen = [graph.head.names.index(name) for name in student.names]
        return build(*keep_classes(graph, teacher.state_dict(), chosen))
    if context.source is None:
        raise StepFailed("`distill` without `teacher` needs the model that the recipe starts from")
    return read(context.source.path)


def _write_fit(model: GraphModule, history: History, context: Context) -> Path:
    write_module(context.work, model)
    write_history(context, history)
    return context.work


def write_history(context: Context, history: History, name: str = HISTORY_FILE) -> None:
    """Write a file such as `training.json`: loss and the held-out primary measure by epoch, and which epoch was taken."""
    values = asdict(history)
    values[task_of(context.model).primary.value] = values.pop("score")
    write_json(context.work / name, dict(sorted(values.items())))
