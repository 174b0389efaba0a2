"""Mend the statistics of batch normalisations after channels were cut, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from yolodeploy_torch.modules import Conv, Yolo

_TINY = 1e-12


@dataclass(frozen=True)
class Moments:
    """Mean and variance of what a convolution hands to its normalisation, per channel."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Over batch and positions of `[N, C, H, W]`, in float64."""
        variance, mean = torch.var_mean(values.double(), dim=(0, 2, 3), correction=0)
        return cls(mean, variance)

    def take(self, channels: Tensor) -> Moments:
        """Those of some channels."""
        return Moments(self.mean[channels], self.variance[channels])


def moments(model: Yolo, images: Tensor) -> dict[str, Moments]:
    """The moments of every convolution unit's output on a batch of images `[N, 3, H, W]`."""
    found: dict[str, Moments] = {}
    hooks = [
        norm.register_forward_pre_hook(
            lambda _, given, n=name: found.update({n: Moments.of(given[0])})
        )
        for name, norm in _norms(model).items()
    ]
    with _removing(hooks), torch.inference_mode():
        model.logits(images)
    return found


def recalibrate(model: Yolo, images: Tensor, wanted: Mapping[str, Moments]) -> None:
    """Set the running statistics so that every unit's output has its former mean and variance.

    With statistics that describe the data this is the usual re-estimation of batch normalisation
    (Li et al., EagleEye, https://arxiv.org/abs/2007.02491). It also holds for a checkpoint whose
    normalisations were folded into the convolutions: theirs say 0 and 1 whatever the data. Units
    are mended in order of execution, each seeing what the mended ones before it give.
    """

    def mend(norm: nn.Module, given: tuple[Tensor], name: str) -> None:
        bn, before, now = cast("nn.BatchNorm2d", norm), wanted[name], Moments.of(given[0])
        mean, variance = cast("Tensor", bn.running_mean), cast("Tensor", bn.running_var)
        ratio = (now.variance + _TINY) / (before.variance + _TINY)
        shift = mean.double() - before.mean
        mean.copy_(now.mean + shift * ratio.sqrt())
        variance.copy_(((variance.double() + bn.eps) * ratio - bn.eps).clamp(min=0))

    hooks = [
        norm.register_forward_pre_hook(lambda module, given, n=name: mend(module, given, n))
        for name, norm in _norms(model).items()
    ]
    with _removing(hooks), torch.no_grad():
        model.logits(images)


def _norms(model: Yolo) -> dict[str, nn.Module]:
    return {
        f"{name}.conv": unit.bn for name, unit in model.named_modules() if isinstance(unit, Conv)
    }


class _removing:  # noqa: N801 - reads as a statement
    def __init__(self, hooks: list[torch.utils.hooks.RemovableHandle]) -> None:
        self._hooks = hooks

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
