"""Observe what the convolutions of a float model read and make: the ranges that training starts from."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy.compress import Range
from yolodeploy_torch.model import Conv, Yolo, unified_scales

_SAMPLES = 4096  # at least, of one map in one image: the few largest decide the range
_SHARES = torch.linspace(0.1, 1.0, 19).tolist()
_TINY = 1e-3  # the smallest range
_STEPS = 255

Samples = dict[str, list[Tensor]]


@dataclass(frozen=True)
class InitialRanges:
    """Ranges of what is read, by unified scale, and of what is made in front of an activation, by convolution."""

    reads: dict[str, Range]
    makes: dict[str, Range]


def observe(model: Yolo, images: Iterable[Tensor]) -> InitialRanges:
    """The ranges of least squared error on images `[1, 3, H, W]`.

    Those of what is read are symmetric. The error of what is made is taken behind the activation.
    """
    read, made = _samples(model, images)
    shared: dict[str, list[Tensor]] = defaultdict(list)
    for name, scale in unified_scales(model.arch).items():
        shared[scale] += read[name]
    return InitialRanges(
        {scale: _symmetric(torch.cat(found)) for scale, found in shared.items()},
        {name: _around_zero(torch.cat(found)) for name, found in made.items()},
    )


def _samples(model: Yolo, images: Iterable[Tensor]) -> tuple[Samples, Samples]:
    read: Samples = {name: [] for name in unified_scales(model.arch)}
    made: Samples = {f"{n}.conv": [] for n, unit in model.named_modules() if isinstance(unit, Conv)}
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name, found in read.items():
            hooks.enter_context(
                model.get_submodule(name).register_forward_pre_hook(
                    lambda _, given, found=found: found.append(_sample(given[0]))
                )
            )
        for name, found in made.items():
            norm = model.get_submodule(f"{name.removesuffix('.conv')}.bn")
            hooks.enter_context(
                norm.register_forward_hook(
                    lambda _, __, result, found=found: found.append(_sample(result))
                )
            )
        for image in images:
            model.logits(image)
    return read, made


def _sample(values: Tensor) -> Tensor:
    """Evenly spaced values, at a distance that has no divisor in common with the size of the map.

    A multiple of the width would only ever meet the same columns, the border for example.
    """
    flat = values.reshape(-1)
    distance = max(1, len(flat) // _SAMPLES)
    while math.gcd(distance, len(flat)) > 1:
        distance -= 1
    return flat[::distance].clone()


def _symmetric(values: Tensor) -> Range:
    peak = max(float(values.abs().max()), _TINY)
    return _best(values, [(-peak * share, peak * share) for share in _SHARES], lambda x: x)


def _around_zero(values: Tensor) -> Range:
    """Move one end after the other to where the error behind the activation is smallest."""
    low, high = min(float(values.min()), -_TINY), max(float(values.max()), _TINY)
    found = Range(low=low, high=high)
    for _ in range(2):
        found = _best(values, [(found.low, high * share) for share in _SHARES], functional.silu)
        found = _best(values, [(low * share, found.high) for share in _SHARES], functional.silu)
    return found


def _best(
    values: Tensor, candidates: list[tuple[float, float]], activation: Callable[[Tensor], Tensor]
) -> Range:
    """The candidate with the smallest squared error of 8-bit rounding behind `activation`."""
    exact = activation(values)

    def error(ends: tuple[float, float]) -> float:
        step = (ends[1] - ends[0]) / _STEPS
        least = round(ends[0] / step)
        rounded = (values / step).round_().clamp_(least, least + _STEPS).mul_(step)
        return float((activation(rounded) - exact).square_().sum())

    low, high = min(candidates, key=error)
    return Range(low=low, high=high)
