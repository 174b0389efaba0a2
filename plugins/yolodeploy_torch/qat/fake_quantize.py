"""Fake quantization: a model that computes in training as its 8-bit artifact will.

Every convolution reads its input rounded to 8 bits, with weights rounded to 8 bits after the batch
normalisation was folded into them. Rounding has the gradient 1 inside its range and 0 outside
(straight-through estimator, Bengio et al., https://arxiv.org/abs/1308.3432). The step of a range is
trained with the gradient of Esser et al., "Learned Step Size Quantization",
https://arxiv.org/abs/1902.08153. It is trained as a logarithm (Jain et al.,
https://arxiv.org/abs/1903.08066), so that the optimizer changes large and small ranges alike.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule
from torch.nn import functional

from yolodeploy.compress import Range, Ranges
from yolodeploy_torch.graph import graph_in
from yolodeploy_torch.model import Outputs, Trainable, norms, outputs, unified_scales
from yolodeploy_torch.qat.observers import InitialRanges

_LEVELS = 127
_TINY = 1e-12


class FakeQuantized(nn.Module):
    """A network whose convolutions compute in fake 8 bits, all but those in `kept_float`.

    Training starts from the ranges in `initial`. The weights keep their names below `network`, which is the
    given model itself. Batch statistics are frozen.
    """

    def __init__(
        self, network: GraphModule, initial: InitialRanges, kept_float: frozenset[str]
    ) -> None:
        super().__init__()
        self.network, self.graph = network, graph_in(network)
        self._logits = Trainable(network).network.graph
        self._norms = norms(self.graph)
        scales = unified_scales(self.graph)
        self.scales = {name: scale for name, scale in scales.items() if name not in kept_float}
        self.reads = nn.ModuleDict(
            {_key(scale): _symmetric(initial.reads[scale]) for scale in self.scales.values()}
        )
        self.makes = nn.ModuleDict(
            {_key(n): _asymmetric(r) for n, r in initial.makes.items() if n in self.scales}
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images as the network does."""
        return cast("Tensor", _Run(self, self.network.graph).run(images))

    def logits(self, images: Tensor) -> Outputs:
        """Map images as `Trainable` does."""
        return outputs(self.graph, _Run(self, self._logits).run(images))

    def folded(self, name: str) -> tuple[Tensor, Tensor | None]:
        """Kernel and bias of a convolution, with its normalisation folded into them."""
        conv = cast("nn.Conv2d", self.network.get_submodule(name))
        if name not in self._norms:
            return conv.weight, conv.bias
        bn = cast("nn.BatchNorm2d", self.network.get_submodule(self._norms[name].name))
        mean, variance = cast("Tensor", bn.running_mean), cast("Tensor", bn.running_var)
        scale = bn.weight * (variance + bn.eps).rsqrt()
        return conv.weight * scale[:, None, None, None], bn.bias - mean * scale

    def bypassed(self) -> frozenset[str]:
        """The normalisations that are folded into convolutions in 8 bits."""
        return frozenset(self._norms[name].name for name in self.scales if name in self._norms)

    def ranges(self) -> Ranges:
        """The ranges, as they were learned, of the layers that the output depends on."""
        reads, makes = dict[str, Range](), dict[str, Range]()
        for name in (node.name for node in self.graph.needed() if node.name in self.scales):
            reads[name] = cast("Quantizer", self.reads[_key(self.scales[name])]).range
            if _key(name) in self.makes:
                makes[name] = cast("Quantizer", self.makes[_key(name)]).range
        return Ranges(reads=reads, makes=makes)


class _Run(fx.Interpreter):
    """Runs a program of a network with fake-quantized convolutions in the places of the others."""

    def __init__(self, owner: FakeQuantized, program: fx.Graph) -> None:
        super().__init__(owner.network, graph=program)
        self._owner, self._bypassed = owner, owner.bypassed()

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Compute a convolution in fake 8 bits, with what was folded into it."""
        owner = self._owner
        if target in self._bypassed:
            return args[0]
        if target not in owner.scales:
            return super().call_module(target, args, kwargs)
        conv = cast("nn.Conv2d", owner.network.get_submodule(target))
        weight, bias = owner.folded(target)
        read = owner.reads[_key(owner.scales[target])](args[0])
        made = functional.conv2d(
            read,
            round_weights(weight),
            bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
        )
        key = _key(target)
        return owner.makes[key](made) if key in owner.makes else made


class Quantizer(nn.Module):
    """Rounds a map to 8 bits: to multiples, from `low` to `high`, of a step that is trained."""

    def __init__(self, step: float, low: int, high: int) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.tensor(math.log(step)))
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return cast("Tensor", _Round.apply(x.float(), self.log_step, self.low, self.high))

    @property
    def range(self) -> Range:
        """The smallest and the greatest value that it gives."""
        step = math.exp(self.log_step.item())
        return Range(low=self.low * step, high=self.high * step)


def _symmetric(wanted: Range) -> Quantizer:
    """Rounds to -128..127 steps."""
    return Quantizer(wanted.high / _LEVELS, -_LEVELS - 1, _LEVELS)


def _asymmetric(wanted: Range) -> Quantizer:
    """Rounds to 256 levels, of which at least one is above 0."""
    step = (wanted.high - wanted.low) / 255
    low = max(round(wanted.low / step), -254)
    return Quantizer(step, low, low + 255)


class _Round(torch.autograd.Function):
    """Rounds x to the nearest of step * (low..high), with gradients for x and the step's logarithm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_step: Tensor, low: int, high: int) -> Tensor:
        step = log_step.exp()
        rounded = (x / step).round_().clamp_(low, high).mul_(step)
        ctx.save_for_backward(x, rounded, step)
        ctx.limits = low, high
        return rounded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, rounded, step = ctx.saved_tensors
        low, high = ctx.limits
        passed = grad * ((x >= (low - 0.5) * step) & (x <= (high + 0.5) * step))
        # rounded is step * round(x / step) inside: its derivative by log(step) is rounded - x
        return passed, (grad * rounded).sum() - (passed * x).sum(), None, None


def round_weights(weight: Tensor) -> Tensor:
    """Round weights `[out, in, h, w]`: the greatest magnitude in an output channel is 127 steps.

    The gradient passes as if nothing were rounded.
    """
    exact = weight.detach()
    step = exact.abs().amax((1, 2, 3), keepdim=True).clamp(min=_TINY) / _LEVELS
    return weight + ((exact / step).round() * step - exact)


def _key(name: str) -> str:
    return name.replace(".", "_")  # a child's name has no dots
