"""Mend the statistics of batch normalisations after channels were cut, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from yolodeploy_torch.graph import BatchNorm, graph_in, select
from yolodeploy_torch.model import training_values

_TINY = 1e-12


@dataclass(frozen=True)
class Moments:
    """Mean and variance of what a normalisation reads, per channel."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Compute them over batch and positions of `[N, C, H, W]`, in float64."""
        variance, mean = torch.var_mean(values.double(), dim=(0, 2, 3), correction=0)
        return cls(mean, variance)

    def take(self, channels: Tensor | None) -> Moments:
        """The moments of some channels; None: of all."""
        return self if channels is None else Moments(self.mean[channels], self.variance[channels])


def moments(model: GraphModule, images: Tensor) -> dict[str, Moments]:
    """The moments of what every normalisation reads, by its name, on a batch of images `[N, channels, H, W]`."""
    found: dict[str, Moments] = {}

    def note(name: str, _norm: nn.BatchNorm2d, values: Tensor) -> None:
        found[name] = Moments.of(values)

    _visit_norms(model, images, note)
    return found


def recalibrate(model: GraphModule, images: Tensor, wanted: Mapping[str, Moments]) -> None:
    """Set the running statistics so that what every normalisation gives has its former mean and variance.

    With statistics that describe the data this is the usual re-estimation of batch normalisation
    (Li et al., EagleEye, https://arxiv.org/abs/2007.02491). It also holds for a checkpoint whose
    normalisations were folded into the convolutions: their statistics are 0 and 1 whatever the data.
    They are mended in order of execution, so each sees what the mended ones before it give.
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
    model: GraphModule, images: Tensor, visit: Callable[[str, nn.BatchNorm2d, Tensor], None]
) -> None:
    """Run the model, with all its heads, and call `visit` with what each normalisation is about to read."""
    graph = graph_in(model)
    values = training_values(graph)
    with contextlib.ExitStack() as hooks, torch.no_grad():
        for node in graph.needed(*values):
            if isinstance(node, BatchNorm):
                norm = cast("nn.BatchNorm2d", model.get_submodule(node.name))
                hooks.enter_context(
                    norm.register_forward_pre_hook(
                        lambda norm, given, name=node.name: visit(name, norm, given[0])
                    )
                )
        select(model, values)(images)
