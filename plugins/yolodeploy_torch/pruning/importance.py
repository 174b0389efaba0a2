"""How much each channel of a group matters, by the usual criteria; higher is more important."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from yolodeploy.data import Dataset
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import BatchNorm, Conv, ConvTranspose, Graph, State, graph_in
from yolodeploy_torch.model import Group, Structure, Trainable, norms
from yolodeploy_torch.params import Augment, Finetune
from yolodeploy_torch.training import Batches, Objective

Criterion = Literal["magnitude", "bn_scale"]
IMAGES = 256  # that `taylor` looks at
BATCH = 4
_EPS = 1e-12
_PLAIN = Augment.model_validate(dict.fromkeys(Augment.model_fields, 0))
_Unit = tuple[Conv | ConvTranspose, BatchNorm | None]  # a convolution and its normalisation


def importance(
    criterion: Criterion, graph: Graph, found: Structure, state: State
) -> dict[Group, Tensor]:
    """Rate channels by their weights: float64 `[size]` for every group that the output needs.

    `magnitude` is the L2 norm of a channel's filter with its batch normalisation folded in (Li et
    al., https://arxiv.org/abs/1608.08710); `bn_scale` the normalisation's scale (Network Slimming,
    https://arxiv.org/abs/1708.06519), 1 where there is none. A group takes the root of the sum of squares over
    the convolutions that make it.
    """

    def square(unit: _Unit) -> Tensor:
        conv, norm = unit
        weight = state[f"{conv.name}.weight"].double()
        filters = weight.transpose(0, 1) if isinstance(conv, ConvTranspose) else weight
        scale = torch.ones(len(filters), dtype=torch.float64)
        if norm:
            scale = state[f"{norm.name}.weight"].double()
        if criterion == "bn_scale":
            return scale.square()
        if norm:
            scale = scale / (state[f"{norm.name}.running_var"].double() + norm.eps).sqrt()
        lengths: Tensor = filters.flatten(1).norm(dim=1)
        return (lengths * scale.abs()).square()

    sums = _sum_by_group(graph, found, square)
    return {group: squares.sqrt() for group, squares in sums.items()}


def relative(scores: Mapping[Group, Tensor]) -> dict[Group, Tensor]:
    """Divide scores by the mean of their group, which makes groups comparable with each other."""
    return {group: score / score.mean().clamp(min=_EPS) for group, score in scores.items()}


def taylor(
    model: GraphModule,
    found: Structure,
    view: Dataset,
    imgsz: ImageShape,
    progress: Callable[[float, str], None],
) -> dict[Group, Tensor]:
    """Rate channels by how much the loss would change without them, to first order.

    Returns float64 `[size]` for every group that the output needs, the root mean square over batches of images.
    A channel's gate is a factor on what its normalisation gives; the derivative of the loss by it is
    the change that removing the channel would make, if the loss were linear (Molchanov et al.,
    https://arxiv.org/abs/1906.10771). The gates of a group open and close together, so their derivatives
    are added up before they are squared. Leaves no gradients in the model.
    """
    graph, images = graph_in(model), view.spread(IMAGES)
    objective = Objective(Trainable(model), Finetune(), imgsz)
    batches = Batches(images, imgsz, _PLAIN, 0, objective.masks)
    count = max(1, len(images) // BATCH)
    model.requires_grad_(requires_grad=False)
    for unit, _ in _units(graph, found):
        _gated(model, unit).requires_grad_()
    squares: dict[Group, Tensor] = {}
    for number, batch in enumerate(batches.epoch(0, BATCH)):
        parts = objective(batch).values()
        torch.autograd.backward(cast("Tensor", sum(parts)))
        slopes = _sum_by_group(graph, found, lambda unit: _slope(_gated(model, unit)))
        for group, slope in slopes.items():
            squares[group] = squares.get(group, 0) + slope.square()
        progress(0.9 * (number + 1) / count, f"importance on {len(images)} images")
    model.requires_grad_(requires_grad=False)
    return {group: (square / count).sqrt() for group, square in squares.items()}


def _units(graph: Graph, found: Structure) -> Iterator[tuple[_Unit, Tensor]]:
    """The convolutions that the output needs and whose channels may be cut, and the numbers of these channels."""
    normalised = norms(graph)
    for node in graph.needed():
        if isinstance(node, Conv | ConvTranspose):
            numbers = found.numbers(node.name, 1)
            if numbers is not None:
                yield (node, normalised.get(node.name)), torch.from_numpy(numbers)


def _sum_by_group(
    graph: Graph, found: Structure, values: Callable[[_Unit], Tensor]
) -> dict[Group, Tensor]:
    """Add up values `[outputs]` of convolutions, float64, over the groups that they make."""
    count = 1 + sum(group.size for group in found.groups)
    sums, made = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.bool)
    for unit, numbers in _units(graph, found):
        sums.index_add_(0, numbers, values(unit))
        made[numbers] = True
    return {
        group: sums[group.first : group.first + group.size]
        for group in found.groups
        if made[group.first]
    }


def _gated(model: GraphModule, unit: _Unit) -> nn.Module:
    conv, norm = unit
    return model.get_submodule(norm.name if norm else conv.name)


def _slope(module: nn.Module) -> Tensor:
    """The derivative by the gates on what a module gives, in float64; takes the gradients out of it."""
    slopes = []
    for parameter in module.parameters():
        product = parameter.detach().double() * cast("Tensor", parameter.grad).double()
        if isinstance(module, nn.ConvTranspose2d) and product.ndim > 1:
            product = product.transpose(0, 1)
        slopes.append(product.flatten(1).sum(1) if product.ndim > 1 else product)
        parameter.grad = None
    return cast("Tensor", sum(slopes))
