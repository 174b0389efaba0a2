"""The state of a training: everything that the next epoch depends on, in memory and on disk."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint import read_values

STATE_FILE = "state.pt"
_MISFITS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class History:
    """The mean loss of an image and the task's primary measure on the held-out images, by epoch.

    `best` is the number of the epoch that is taken, counted from 1.
    """

    loss: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    best: int = 0

    def check(self) -> None:
        """Raise TypeError if it holds anything but numbers."""
        numbers = (*self.loss, *self.score, float(self.best))
        if not all(type(number) is float for number in numbers) or type(self.best) is not int:
            raise TypeError("a history holds nothing but numbers")


class Progress:
    """Model, moving average, optimizer, best weights and history of a training under way."""

    def __init__(
        self, model: nn.Module, helpers: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.model = model
        self.helpers = helpers
        self.optimizer = optimizer
        self.average = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.best: dict[str, Tensor] = {}
        self.history = History()

    @property
    def epoch(self) -> int:
        """How many epochs are finished."""
        return len(self.history.loss)

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` epochs have passed without a better one."""
        return patience is not None and self.epoch - self.history.best >= patience

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards those of the model."""
        current = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def end_epoch(self, epoch: int, score: float | None) -> None:
        """Note the score of the averaged model; keep its weights if it is the best so far, or was not scored."""
        best = max(self.history.score, default=-math.inf)
        if score is not None:
            self.history.score.append(score)
        if score is None or score > best:
            self.history.best = epoch + 1
            self.best = {n: v.detach().clone() for n, v in self.average.state_dict().items()}

    def best_model(self) -> nn.Module:
        """The averaged model with the best weights."""
        self.average.load_state_dict(self.best)
        return self.average

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain tensors and numbers."""
        return {
            "parts": [part.state_dict() for part in self._parts()],
            "best": self.best,
            "history": asdict(self.history),
        }

    def load_state_dict(self, state: Any) -> None:
        """Restore what `state_dict` gave; anything else raises one of several errors."""
        for part, saved in zip(self._parts(), state["parts"], strict=True):
            part.load_state_dict(saved)
        self.best = state["best"]
        self.history = History(**state["history"])
        self.history.check()

    def _parts(self) -> tuple[Any, ...]:
        return (self.model, self.helpers, self.average, self.optimizer)


def write_state(folder: Path, progress: Progress) -> None:
    """Replace the state in the folder at once: after a crash it is the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{STATE_FILE}.partial"
    with partial.open("wb") as file:  # given a path, PyTorch does not report a full disk
        torch.save(progress.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / STATE_FILE)


def read_state(folder: Path, progress: Progress) -> None:
    """Restore the state in the folder; one that cannot be read is removed, and the training begins anew."""
    path = folder / STATE_FILE
    if not path.exists():
        return
    before = copy.deepcopy(progress.state_dict())
    try:
        progress.load_state_dict(read_values(path))
    except (*_MISFITS, ModelError):  # damaged, or of another training
        progress.load_state_dict(before)
        path.unlink()
