"""Mend the statistics of batch normalisations after channels were cut, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from yolodeploy_torch.model import Conv, Yolo

_TINY = 1e-12


@dataclass(frozen=True)
class Moments:
    """Mean and variance of what a convolution hands to its normalisation, per channel."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Compute them over batch and positions of `[N, C, H, W]`, in float64."""
        variance, mean = torch.var_mean(values.double(), dim=(0, 2, 3), correction=0)
        return cls(mean, variance)

    def take(self, channels: Tensor) -> Moments:
        """The moments of some channels."""
        return Moments(self.mean[channels], self.variance[channels])


def moments(model: Yolo, images: Tensor) -> dict[str, Moments]:
    """The moments of every convolution unit's output on a batch of images `[N, 3, H, W]`."""
    found: dict[str, Moments] = {}

    def note(name: str, _norm: nn.BatchNorm2d, values: Tensor) -> None:
        found[name] = Moments.of(values)

    _visit_norms(model, images, note)
    return found


def recalibrate(model: Yolo, images: Tensor, wanted: Mapping[str, Moments]) -> None:
    """Set the running statistics so that every unit's output has its former mean and variance.

    With statistics that describe the data this is the usual re-estimation of batch normalisation
    (Li et al., EagleEye, https://arxiv.org/abs/2007.02491). It also holds for a checkpoint whose
    normalisations were folded into the convolutions: their statistics are 0 and 1 whatever the data.
    Units are mended in order of execution, so each sees what the mended ones before it give.
    """

    def mend(name: str, norm: nn.BatchNorm2d, values: Tensor) -> None:
        before, now = wanted[name], Moments.of(values)
        mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        ratio = (now.variance + _TINY) / (before.variance + _TINY)
        shift = mean.double() - before.mean
        mean.copy_(now.mean + shift * ratio.sqrt())
        variance.copy_(((variance.double() + norm.eps) * ratio - norm.eps).clamp(min=0))

    _visit_norms(model, images, mend)


def _visit_norms(
    model: Yolo, images: Tensor, visit: Callable[[str, nn.BatchNorm2d, Tensor], None]
) -> None:
    """Run the model and call `visit` with what each normalisation is about to read."""
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, unit in model.named_modules():
            if isinstance(unit, Conv):
                hooks.enter_context(
                    unit.bn.register_forward_pre_hook(
                        lambda norm, given, name=f"{name}.conv": visit(name, norm, given[0])
                    )
                )
        model.logits(images)
