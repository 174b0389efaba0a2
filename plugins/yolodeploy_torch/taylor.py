"""How much the loss would change without a channel, to first order."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from yolodeploy.dataset import Dataset
from yolodeploy_torch.batches import Batches
from yolodeploy_torch.channels import Channels, Group
from yolodeploy_torch.loss import DetectionLoss
from yolodeploy_torch.modules import Yolo
from yolodeploy_torch.params import Augment

IMAGES = 256
BATCH = 4
_PLAIN = Augment.model_validate(dict.fromkeys(Augment.model_fields, 0))


def taylor(
    model: Yolo, found: Channels, view: Dataset, imgsz: int, progress: Callable[[float, str], None]
) -> dict[Group, Tensor]:
    """Float64 `[size]` for every group that may be cut, the root mean square over batches of images.

    A channel's gate is a factor on what its normalisation gives; the derivative of the loss by it is
    the change that removing the channel would make, if the loss were linear (Molchanov et al.,
    https://arxiv.org/abs/1906.10771). The gates of a group open and close together, so that their
    derivatives are added up before they are squared. Leaves no gradients in the model.
    """
    images = view.spread(IMAGES)
    batches = Batches(images, imgsz, _PLAIN, seed=0)
    loss, gates = DetectionLoss(model.arch), _gates(model, found)
    squares = {g: torch.zeros(g.size, dtype=torch.float64) for g in found.groups if not g.fixed}
    count = max(1, len(images) // BATCH)
    for number, batch in enumerate(batches.epoch(0, BATCH)):
        losses = loss(*model.logits(batch.images), batch.targets, imgsz)
        torch.autograd.backward(losses.total)
        for group, change in _changes(found, gates).items():
            squares[group] += change.square()
        progress(0.9 * (number + 1) / count, f"importance on {len(images)} images")
    model.requires_grad_(requires_grad=False)
    return {group: (square / count).sqrt() for group, square in squares.items()}


def _gates(model: Yolo, found: Channels) -> dict[str, nn.BatchNorm2d]:
    """The normalisation behind every convolution whose channels may be cut, ready for gradients."""
    model.requires_grad_(requires_grad=False)
    units = {
        name: model.get_submodule(f"{name.removesuffix('.conv')}.bn")
        for name, use in found.uses.items()
        if not any(group.fixed for group in use.outputs)
    }
    gates = {name: cast("nn.BatchNorm2d", norm) for name, norm in units.items()}
    for norm in gates.values():
        norm.requires_grad_()
    return gates


def _changes(found: Channels, gates: dict[str, nn.BatchNorm2d]) -> dict[Group, Tensor]:
    """The derivative by every group's gates; takes the gradients out of the model."""
    sums: dict[Group, Tensor] = {}
    for name, norm in gates.items():
        groups = found.uses[name].outputs
        slope = sum(_slope(parameter) for parameter in (norm.weight, norm.bias))
        for group, part in zip(
            groups, torch.split(cast("Tensor", slope), [g.size for g in groups]), strict=True
        ):
            sums[group] = sums.get(group, 0) + part
    return sums


def _slope(parameter: nn.Parameter) -> Tensor:
    """Value times gradient, in float64."""
    gradient = cast("Tensor", parameter.grad)
    parameter.grad = None
    return parameter.detach().double() * gradient.double()
