"""The training loop: the same images, sums and bytes every time, also after a kill.

Everything that an epoch depends on is either in the state that is saved after every epoch, or
follows from (seed, number of the epoch) alone, so that a run that goes on from its last epoch ends
where an undisturbed one does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yolodeploy.accuracy import map50_95
from yolodeploy.backend import Context, Runtime
from yolodeploy.dataset import Dataset
from yolodeploy.errors import DataError, EnvironmentProblem, StepFailed
from yolodeploy_torch.batches import Batch, Batches
from yolodeploy_torch.compute import threads
from yolodeploy_torch.params import Training
from yolodeploy_torch.progress import History, Progress, read_state, write_state

_DECAY = 0.9995  # of the moving average of the weights, which is the model that comes out
_WEIGHT_DECAY = 5e-4
_WARM_UP = 0.1  # of all steps
_LAST_RATE = 0.02  # of the highest
_MAX_GRADIENT = 10.0

Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained: a model, and a loss whose own parameters are trained beside it.

    `model` maps images [N, 3, H, W] to the output of `Yolo`. `loss(batch)` runs it and returns the
    parts of the loss (0-dim, means over the batch's images), whose sum is minimised. `rate(name)` is
    the factor on the learning rate of the model's parameter of that name.
    """

    model: nn.Module
    loss: Callable[[Batch], Parts]
    helpers: nn.Module = field(default_factory=nn.Module)
    rate: Callable[[str], float] = lambda _name: 1.0


def train(task: Task, params: Training, context: Context) -> tuple[nn.Module, History]:
    """Train `task.model` on `context.data["training"]`; return its averaged weights, and the history.

    The model returned is that of the epoch with the best mAP on the held-out images. Raises StepFailed
    if the loss stops being a number, EnvironmentProblem if the device is absent, DataError if the
    held-out images cannot judge.
    """
    _require(params.device)
    with threads(params.threads), _repeatable(params.device):
        run = _Run(task, params, context)
        for epoch in range(run.progress.epoch, params.epochs):
            if run.progress.exhausted(params.patience):
                break
            run.train(epoch)
            run.finish(epoch)
        return run.result()


def held_out(view: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """Split a view into what is trained on and what is held out to judge epochs by (may be empty)."""
    count = math.ceil(len(view) * share) if len(view) > 1 else 0
    judges = view.spread(count) if count else replace(view, images=())
    held = set(judges.images)
    return replace(view, images=tuple(i for i in view.images if i not in held)), judges


class _Run:
    """A training under way."""

    def __init__(self, task: Task, params: Training, context: Context) -> None:
        self._task, self._params, self._context = task, params, context
        trained, self._judges = held_out(context.data["training"], params.holdout)
        _require_objects(self._judges)
        self._batches = Batches(trained, context.imgsz, params.augment, context.seed)
        self._steps = max(1, len(trained) // params.batch)
        for module in (task.model, task.helpers):
            module.to(params.device).to(memory_format=torch.channels_last)
        groups = _groups(task, params.lr)
        optimizer = torch.optim.AdamW(groups)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.progress = Progress(task.model, task.helpers, optimizer)
        if context.resume:
            read_state(context.resume, self.progress)

    def train(self, epoch: int) -> None:
        """Show every image once."""
        self._task.model.train()
        total = 0.0
        for step, batch in enumerate(self._batches.epoch(epoch, self._params.batch)):
            on_device = Batch(batch.images.to(self._params.device), batch.targets)
            total += self._step(on_device, epoch, step)
            text = f"epoch {epoch + 1}/{self._params.epochs} loss {total / (step + 1):.3f}"
            done = (epoch + (step + 1) / self._steps) / self._params.epochs
            self._context.progress(0.99 * done, f"{text}{self.progress.history.told()}")
        self.progress.history.loss.append(round(total / self._steps, 6))

    def _step(self, batch: Batch, epoch: int, step: int) -> float:
        params, done = self._params, epoch * self._steps + step
        optimizer = self.progress.optimizer
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * _rate_at(done, self._steps * params.epochs)
        with torch.autocast(params.device, torch.bfloat16, enabled=params.amp):
            parts = self._task.loss(batch)
        loss = torch.stack([part.float() for part in parts.values()]).sum()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise StepFailed(self._diverged(epoch, step, parts))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, _MAX_GRADIENT)
        if not math.isfinite(float(norm)):  # the next loss would not be one, if there is a next
            raise StepFailed(self._diverged(epoch, step, {"gradient": norm}))
        optimizer.step()
        self.progress.follow(min(_DECAY, (1 + done) / (10 + done)))
        return value

    def _diverged(self, epoch: int, step: int, parts: Parts) -> str:
        odd = ", ".join(name for name, part in parts.items() if not torch.isfinite(part).all())
        kept = f" The state after epoch {epoch} is kept in {self._context.resume}."
        return (
            f"the training diverged: no number any more in epoch {epoch + 1}, step {step + 1} ({odd}). Lower `lr` "
            f"(now {self._params.lr:g}).{kept if epoch and self._context.resume else ''}"
        )

    def finish(self, epoch: int) -> None:
        """Judge the epoch and save the state."""
        score = self._judge() if len(self._judges) else None
        self.progress.end_epoch(epoch, score)
        if self._context.resume:
            write_state(self._context.resume, self.progress)

    def _judge(self) -> float:
        predictor = _Predictor(self.progress.average, self._params.device)
        return round(map50_95(predictor, self._judges, self._context.imgsz), 6)

    def result(self) -> tuple[nn.Module, History]:
        """The averaged model of the best epoch, on the CPU."""
        model = self.progress.best_model()
        return model.cpu().to(memory_format=torch.contiguous_format), self.progress.history


class _Predictor:
    """A model in training, as the core measures it."""

    def __init__(self, model: nn.Module, device: str) -> None:
        self._model, self._device = model, device
        self.runtime = Runtime("PyTorch", torch.__version__, device, torch.get_num_threads())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
            return cast("NDArray[np.float32]", self._model(batch).float().cpu().numpy())


def _groups(task: Task, lr: float) -> list[dict[str, object]]:
    """Kernels decay; biases, normalisations and ranges do not. One group for each rate and kind."""
    named = [(task.rate(name), p) for name, p in task.model.named_parameters()]
    named += [(1.0, p) for p in task.helpers.parameters()]
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for factor, parameter in named:
        if parameter.requires_grad:
            decay = _WEIGHT_DECAY if parameter.ndim > 1 else 0.0
            found.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in found.items()
    ]


def _rate_at(step: int, steps: int) -> float:
    """The learning rate, 1 at its peak: a linear rise, then half a cosine down to _LAST_RATE."""
    rise = max(1, min(100, round(_WARM_UP * steps)))
    fall = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / rise) * fall


def _require(device: str) -> None:
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[device]:
        raise EnvironmentProblem(
            f"`device: {device}`: PyTorch {torch.__version__} sees no such device here. Write device: cpu, "
            "or run this on a machine that has one."
        )


def _require_objects(judges: Dataset) -> None:
    if len(judges) and not any(judges.boxes(image) for image in judges.images):
        raise DataError(
            f"none of the {len(judges)} held-out training images shows an object, so no epoch can be judged. "
            "Name more training images, raise `holdout`, or write holdout: 0 to take the last epoch."
        )


@contextlib.contextmanager
def _repeatable(device: str) -> Iterator[None]:
    """On a CPU, fail on any operation whose result would vary from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
