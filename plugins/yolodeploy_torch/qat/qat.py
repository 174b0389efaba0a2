"""The step `qat`: trains a model in fake 8 bits, and learns the ranges (quantization-aware training)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from yolodeploy.backend import Artifact, Context
from yolodeploy.compress import choose
from yolodeploy.errors import PlanRefused
from yolodeploy_torch.model import convolutions, read, threads, write
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
    model, teacher = unfreeze(read(artifact.path)), read(artifact.path)
    parts = convolutions(model.arch)
    kept_float = choose(params.keep_float, parts, "keep_float")
    if all(name in kept_float or part == "dfl" for name, part in parts.items()):
        raise PlanRefused("`keep_float` selects every convolution. Use `finetune`.")
    view = context.data["training"].spread(_IMAGES)
    with threads(1):  # so that the sums do not depend on the number of threads
        images = (torch.from_numpy(image) for image in view.letterboxed(context.imgsz))
        ranges = observe(teacher, images)
    student = FakeQuantized(model, ranges, kept_float)
    objective = Objective(model, params, context.imgsz, teacher)
    task = Task(student, objective, rate=lambda name: _rate(name, params))
    trained, history = train(task, params, context)
    result = cast("FakeQuantized", trained)
    write(context.work, result.yolo.arch, result.yolo.state_dict())
    result.ranges().write(context.work)
    write_history(context.work, history)
    return context.work


def _rate(name: str, params: Qat) -> float:
    return params.range_rate if name.startswith(("reads.", "makes.")) else 1.0
