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
from torch import Tensor, nn
from torch.nn import functional

from yolodeploy.compress import Range, Ranges
from yolodeploy_torch.model import Conv, Yolo, unified_scales
from yolodeploy_torch.qat.observers import InitialRanges

_LEVELS = 127
_TINY = 1e-12


class FakeQuantized(nn.Module):
    """A `Yolo` whose convolutions compute in fake 8 bits, all but those in `kept_float`.

    Training starts from the ranges in `initial`. The weights keep their names below `yolo`, which is the
    given model itself. Batch statistics are frozen.
    """

    def __init__(self, yolo: Yolo, initial: InitialRanges, kept_float: frozenset[str]) -> None:
        super().__init__()
        self.yolo = yolo
        scales = unified_scales(yolo.arch)
        self._scales = {name: scale for name, scale in scales.items() if name not in kept_float}
        self.reads = nn.ModuleDict(
            {_key(scale): _symmetric(initial.reads[scale]) for scale in self._scales.values()}
        )
        self.makes = nn.ModuleDict(
            {_key(n): _asymmetric(r) for n, r in initial.makes.items() if n not in kept_float}
        )
        for name, scale in self._scales.items():
            self._replace(name, cast("Quantizer", self.reads[_key(scale)]))

    def _replace(self, name: str, reads: Quantizer) -> None:
        """Put a fake-quantized unit in the place of this convolution's."""
        path = name.removesuffix(".conv")
        parent, _, last = path.rpartition(".")
        unit = self.yolo.get_submodule(path)
        makes = dict(self.makes.items()).get(_key(name))
        quantized: nn.Module
        if isinstance(unit, Conv):
            quantized = _QuantizedUnit(unit, reads, cast("Quantizer | None", makes))
        else:
            quantized = _QuantizedLast(cast("nn.Conv2d", unit), reads)
        self.yolo.get_submodule(parent).register_module(last, quantized)

    def forward(self, images: Tensor) -> Tensor:
        """Map images as `Yolo` does."""
        return cast("Tensor", self.yolo(images))

    def ranges(self) -> Ranges:
        """The ranges as they were learned."""
        reads, makes = dict[str, Range](), dict[str, Range]()
        for name, scale in self._scales.items():
            reads[name] = cast("Quantizer", self.reads[_key(scale)]).range
            if _key(name) in self.makes:
                makes[name] = cast("Quantizer", self.makes[_key(name)]).range
        return Ranges(reads=reads, makes=makes)


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


class _QuantizedUnit(nn.Module):
    """In place of a convolution unit; the names of its weights stay the same."""

    def __init__(self, unit: Conv, reads: Quantizer, makes: Quantizer | None) -> None:
        super().__init__()
        self.conv, self.bn, self.act = unit.conv, unit.bn, unit.act
        self._quantizers = (reads, makes)  # not children: each is registered once, under its scale

    def forward(self, x: Tensor) -> Tensor:
        bn, (reads, makes) = cast("nn.BatchNorm2d", self.bn), self._quantizers
        mean, variance = cast("Tensor", bn.running_mean), cast("Tensor", bn.running_var)
        scale = bn.weight * (variance + bn.eps).rsqrt()
        weight = round_weights(self.conv.weight * scale[:, None, None, None])
        bias = bn.bias - mean * scale
        stride, padding = self.conv.stride, self.conv.padding
        y = functional.conv2d(reads(x), weight, bias, stride, padding)
        return cast("Tensor", self.act(makes(y) if makes else y))


class _QuantizedLast(nn.Module):
    """In place of the last convolution of a branch of the head."""

    def __init__(self, conv: nn.Conv2d, reads: Quantizer) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._quantizers = (reads,)

    def forward(self, x: Tensor) -> Tensor:
        (reads,) = self._quantizers
        return functional.conv2d(reads(x), round_weights(self.weight), self.bias)


def round_weights(weight: Tensor) -> Tensor:
    """Round weights `[out, in, h, w]`: the greatest magnitude in an output channel is 127 steps.

    The gradient passes as if nothing were rounded.
    """
    exact = weight.detach()
    step = exact.abs().amax((1, 2, 3), keepdim=True).clamp(min=_TINY) / _LEVELS
    return weight + ((exact / step).round() * step - exact)


def _key(name: str) -> str:
    return name.replace(".", "_")  # a child's name has no dots
