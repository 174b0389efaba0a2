"""The step `qat`: trains a model in fake 8 bits, and learns the ranges (quantization-aware training)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from yolodeploy.backend import Artifact, Context
from yolodeploy.compress import choose
from yolodeploy.errors import PlanRefused
from yolodeploy_torch.graph import build, graph_in
from yolodeploy_torch.model import Outputs, merged, parts, read, threads, write_module
from yolodeploy_torch.params import Qat
from yolodeploy_torch.qat.fake_quantize import FakeQuantized
from yolodeploy_torch.qat.observers import observe
from yolodeploy_torch.training import Objective, Task, train, unfreeze, write_history

_IMAGES = 32  # that give the initial ranges


def qat(artifact: Artifact, params: Qat, context: Context) -> Path:
    """Write the trained model and `ranges.json`; the batch statistics stay those of the input.

    The teacher is the float model itself. Raises PlanRefused for a selector without a match or if nothing is
    left to quantize; the rest as `train` does.
    """
    source = read(artifact.path)
    # Parallel convolutions are one in the artifact, and so they are rounded.
    graph, state = merged(graph_in(source), source.state_dict())
    model, teacher = (build(graph, {n: v.clone() for n, v in state.items()}) for _ in range(2))
    layers = parts(graph)
    kept_float = choose(params.keep_float, layers, "keep_float")
    if all(name in kept_float or part == "dfl" for name, part in layers.items()):
        raise PlanRefused("`keep_float` selects every convolution. Use `finetune`.")
    view = context.data["training"].spread(_IMAGES)
    with threads(1):  # so that the sums do not depend on the number of threads
        images = (torch.from_numpy(image) for image in view.letterboxed(context.imgsz))
        ranges = observe(teacher, images)
    student = FakeQuantized(unfreeze(model), ranges, kept_float)
    objective = Objective(_Logits(student), params, context.imgsz, teacher)
    task = Task(student, objective, rate=lambda name: _rate(name, params), masks=objective.masks)
    trained, history = train(task, params, context)
    result = cast("FakeQuantized", trained)
    write_module(context.work, result.network)
    result.ranges().write(context.work)
    write_history(context, history)
    return context.work


class _Logits:
    """The student as the objective sees it."""

    def __init__(self, student: FakeQuantized) -> None:
        self.graph, self._student = student.graph, student

    def __call__(self, images: Tensor) -> Outputs:
        return self._student.logits(images)


def _rate(name: str, params: Qat) -> float:
    return params.range_rate if name.startswith(("reads.", "makes.")) else 1.0
