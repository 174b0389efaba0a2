"""How much each channel of a group matters, by the usual criteria; higher is more important."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from yolodeploy.data import Dataset
from yolodeploy.system import ImageShape
from yolodeploy_torch.model import Group, Structure, Yolo
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training import Batches, DetectionLoss

Criterion = Literal["magnitude", "bn_scale"]
IMAGES = 256  # that `taylor` looks at
BATCH = 4
_EPS = 1e-12
_PLAIN = Augment.model_validate(dict.fromkeys(Augment.model_fields, 0))


def importance(
    criterion: Criterion, found: Structure, state: Mapping[str, Tensor], eps: float
) -> dict[Group, Tensor]:
    """Rate channels by their weights: float64 `[size]` for every group that may be cut.

    `magnitude` is the L2 norm of a channel's filter with its batch normalisation folded in (Li et
    al., https://arxiv.org/abs/1608.08710); `bn_scale` the normalisation's scale (Network Slimming,
    https://arxiv.org/abs/1708.06519). A group takes the root of the sum of squares over the
    convolutions that make it.
    """

    def square(unit: str) -> Tensor:
        scale = state[f"{unit}.bn.weight"].double()
        if criterion == "bn_scale":
            return scale.square()
        folded = scale / (state[f"{unit}.bn.running_var"].double() + eps).sqrt()
        norms: Tensor = state[f"{unit}.conv.weight"].double().flatten(1).norm(dim=1)
        return (norms * folded.abs()).square()

    return {group: squares.sqrt() for group, squares in _sum_by_group(found, square).items()}


def relative(scores: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
    """Divide scores by the mean of their group, which makes groups comparable with each other."""
    return {group: score / score.mean().clamp(min=_EPS) for group, score in scores.items()}


def taylor(
    model: Yolo,
    found: Structure,
    view: Dataset,
    imgsz: ImageShape,
    progress: Callable[[float, str], None],
) -> dict[Group, Tensor]:
    """Rate channels by how much the loss would change without them, to first order.

    Returns float64 `[size]` for every group that may be cut, the root mean square over batches of images.
    A channel's gate is a factor on what its normalisation gives; the derivative of the loss by it is
    the change that removing the channel would make, if the loss were linear (Molchanov et al.,
    https://arxiv.org/abs/1906.10771). The gates of a group open and close together, so their derivatives
    are added up before they are squared. Leaves no gradients in the model.
    """
    images = view.spread(IMAGES)
    batches = Batches(images, imgsz, _PLAIN, seed=0)
    loss, count = DetectionLoss(model.arch), max(1, len(images) // BATCH)
    squares = {g: torch.zeros(g.size, dtype=torch.float64) for g in found.groups if not g.fixed}
    model.requires_grad_(requires_grad=False)
    for name, conv in found.convolutions.items():
        if not conv.fixed:
            _norm(model, name.removesuffix(".conv")).requires_grad_()
    for number, batch in enumerate(batches.epoch(0, BATCH)):
        losses = loss(*model.logits(batch.images), batch.targets, imgsz)
        torch.autograd.backward(losses.total)
        slopes = _sum_by_group(found, lambda unit: _slope(_norm(model, unit)))
        for group, slope in slopes.items():
            squares[group] += slope.square()
        progress(0.9 * (number + 1) / count, f"importance on {len(images)} images")
    model.requires_grad_(requires_grad=False)
    return {group: (square / count).sqrt() for group, square in squares.items()}


def _sum_by_group(found: Structure, values: Callable[[str], Tensor]) -> dict[Group, Tensor]:
    """Add up the values `[outputs]` of the convolution units, float64, over the groups that may be cut."""
    sums = {g: torch.zeros(g.size, dtype=torch.float64) for g in found.groups if not g.fixed}
    for name, conv in found.convolutions.items():
        if not conv.fixed:
            of_unit = values(name.removesuffix(".conv"))
            parts = torch.split(of_unit, [group.size for group in conv.outputs])
            for group, part in zip(conv.outputs, parts, strict=True):
                sums[group] += part
    return sums


def _norm(model: Yolo, unit: str) -> nn.BatchNorm2d:
    return cast("nn.BatchNorm2d", model.get_submodule(f"{unit}.bn"))


def _slope(norm: nn.BatchNorm2d) -> Tensor:
    """The derivative by the gates behind a normalisation, in float64; takes the gradients out of it."""
    slopes = []
    for parameter in (norm.weight, norm.bias):
        slopes.append(parameter.detach().double() * cast("Tensor", parameter.grad).double())
        parameter.grad = None
    return slopes[0] + slopes[1]
