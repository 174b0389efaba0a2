"""The training loop: the same images, sums and bytes every time, also after a kill.

Everything that an epoch depends on is either in the state that is saved after every epoch, or follows
from the seed and the number of the epoch alone. So a resumed run ends where an undisturbed one does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from yolodeploy.backend import Context
from yolodeploy.data import Dataset
from yolodeploy.errors import DataError, EnvironmentProblem, StepFailed
from yolodeploy.tasks import TITLES, primary_score, task_of
from yolodeploy_torch.model import TorchPredictor, threads
from yolodeploy_torch.params import Training
from yolodeploy_torch.training.batches import Batch, Batches
from yolodeploy_torch.training.state import History, Progress, read_state, write_state

_DECAY = 0.9995  # of the moving average of the weights, which the result has
_WEIGHT_DECAY = 5e-4
_WARM_UP = 0.1  # of all steps
_LAST_RATE = 0.02  # of the highest
_MAX_GRADIENT = 10.0

Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained: a model, a loss, and the `helpers` whose parameters are trained with the model.

    `model` maps images [N, channels, H, W] to the output [N, 4 + nc, A] that is scored. `loss(batch)` runs it, or
    another module with the same weights, and returns the parts of the loss (0-dim, means over the batch's
    images), whose sum is minimised. `rate(name)` is the factor on the learning rate of the model's parameter of
    that name, `masks` the height and width of the labelled masks that the loss wants, if any.
    """

    model: nn.Module
    loss: Callable[[Batch], Parts]
    helpers: nn.Module = field(default_factory=nn.Module)
    rate: Callable[[str], float] = lambda _name: 1.0
    masks: tuple[int, int] | None = None


def train(task: Task, params: Training, context: Context) -> tuple[nn.Module, History]:
    """Train `task.model` on `context.data["training"]`; return the model of the best epoch, and the history.

    It has the averaged weights, and the best primary measure on the held-out images. Raises StepFailed if the
    training diverges, EnvironmentProblem if the device is absent, DataError if the held-out images show
    no object.
    """
    _require_device(params.device)
    with threads(params.threads), _repeatable(params.device):
        run = _TrainingRun(task, params, context)
        for epoch in range(run.progress.epoch, params.epochs):
            if run.progress.exhausted(params.patience):
                break
            run.train(epoch)
            run.finish(epoch)
        return run.result()


def hold_out(view: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """Split a view into the images to train on and those to validate epochs with (may be none)."""
    count = math.ceil(len(view) * share) if len(view) > 1 else 0
    held_out = view.spread(count) if count else replace(view, images=())
    excluded = set(held_out.images)
    trained = tuple(image for image in view.images if image not in excluded)
    return replace(view, images=trained), held_out


class _TrainingRun:
    """A training under way."""

    def __init__(self, task: Task, params: Training, context: Context) -> None:
        self._task, self._params, self._context = task, params, context
        trained, self._held_out = hold_out(context.data["training"], params.holdout)
        _require_objects(self._held_out)
        self._batches = Batches(trained, context.imgsz, params.augment, context.seed, task.masks)
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
            on_device = batch._replace(images=batch.images.to(self._params.device))
            total += self._step(on_device, epoch, step)
            text = f"epoch {epoch + 1}/{self._params.epochs}, loss {total / (step + 1):.3f}"
            done = (epoch + (step + 1) / self._steps) / self._params.epochs
            self._context.progress(0.99 * done, f"{text}{self._scored()}")
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
        if not math.isfinite(float(norm)):  # checked here, because there may be no next loss
            raise StepFailed(self._diverged(epoch, step, {"gradient": norm}))
        optimizer.step()
        self.progress.update_average(min(_DECAY, (1 + done) / (10 + done)))
        return value

    def _diverged(self, epoch: int, step: int, parts: Parts) -> str:
        odd = ", ".join(name for name, part in parts.items() if not torch.isfinite(part).all())
        kept = f" The state after epoch {epoch} is kept in {self._context.resume}."
        return (
            f"the training diverged: epoch {epoch + 1}, step {step + 1} gave NaN or infinity ({odd}). Lower `lr` "
            f"(now {self._params.lr:g}).{kept if epoch and self._context.resume else ''}"
        )

    def finish(self, epoch: int) -> None:
        """Validate the epoch and save the state."""
        score = self._validate() if len(self._held_out) else None
        self.progress.end_epoch(epoch, score)
        loss = self.progress.history.loss[-1]
        text = f"epoch {epoch + 1}/{self._params.epochs}, loss {loss:.3f}{self._scored()}"
        self._context.note(text)
        if self._context.resume:
            write_state(self._context.resume, self.progress)

    def _scored(self) -> str:
        """The last score on the held-out images, and the best, for progress."""
        history = self.progress.history
        if not history.score:
            return ""
        name = TITLES[task_of(self._context.model).primary]
        return f", {name} {history.score[-1]:.3f}, best {history.score[history.best - 1]:.3f}"

    def _validate(self) -> float:
        predictor = TorchPredictor(self.progress.average, self._params.threads, self._params.device)
        imgsz, head = self._context.imgsz, self._context.head
        task = task_of(self._context.model)
        return round(primary_score(predictor, self._held_out, imgsz, task, head), 6)

    def result(self) -> tuple[nn.Module, History]:
        """The averaged model of the best epoch, on the CPU."""
        model = self.progress.best_model()
        return model.cpu().to(memory_format=torch.contiguous_format), self.progress.history


def _groups(task: Task, lr: float) -> list[dict[str, object]]:
    """Parameter groups by learning rate and weight decay, which only kernels have."""
    named = [(task.rate(name), name, p) for name, p in task.model.named_parameters()]
    named += [(1.0, name, p) for name, p in task.helpers.named_parameters()]
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for factor, name, parameter in named:
        if parameter.requires_grad:
            kernel = parameter.ndim > 1 and name.endswith(".weight")
            decay = _WEIGHT_DECAY if kernel else 0.0
            found.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "weight_decay": decay}
        for (factor, decay), parameters in found.items()
    ]


def _rate_at(step: int, steps: int) -> float:
    """The learning rate as a share of its peak: a linear rise, then half a cosine down to _LAST_RATE."""
    rise = max(1, min(100, round(_WARM_UP * steps)))
    fall = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / rise) * fall


def _require_device(device: str) -> None:
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    if device != "cpu" and not backends[device].is_available():
        raise EnvironmentProblem(
            f"`device: {device}`: PyTorch {torch.__version__} finds no such device here. Write device: cpu, "
            "or run this on a machine that has one."
        )


def _require_objects(held_out: Dataset) -> None:
    if held_out.place is not None:  # each image has a class
        return
    if len(held_out) and not any(held_out.boxes(image) for image in held_out.images):
        raise DataError(
            f"none of the {len(held_out)} held-out training images shows an object, so they cannot rate an epoch. "
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
