"""What the convolutions of a float model read and make on images: the ranges that training starts from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from yolodeploy_torch.modules import Conv, Yolo
from yolodeploy_torch.ranges import Range
from yolodeploy_torch.ties import by_tie, ties

_SAMPLES = 4096  # at least, of one map in one image: the few largest decide the range
_SHARES = torch.linspace(0.1, 1.0, 19).tolist()
_TINY = 1e-3  # the least range
_STEPS = 255

Samples = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Grids:
    """Ranges of what is read, by tie, and of what is made in front of an activation, by convolution."""

    reads: dict[str, Range]
    makes: dict[str, Range]


def observe(model: Yolo, images: Iterable[Tensor]) -> Grids:
    """Ranges of least squared error on images `[1, 3, H, W]`, for what is made: behind the activation.

    Those of what is read are symmetric.
    """
    read, made = _samples(model, images)
    groups = by_tie(ties(model.arch))
    reads = {
        tie: _symmetric(torch.cat([part for name in names for part in read[name]]))
        for tie, names in groups.items()
    }
    return Grids(reads, {name: _around_zero(torch.cat(found)) for name, found in made.items()})


def _samples(model: Yolo, images: Iterable[Tensor]) -> tuple[Samples, Samples]:
    read: Samples = {name: [] for name in ties(model.arch)}
    made: Samples = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, given, found=found: found.append(_some(given[0]))
        )
        for name, found in read.items()
    ]
    for name, unit in model.named_modules():
        if isinstance(unit, Conv):
            found = made.setdefault(f"{name}.conv", [])
            hooks.append(
                unit.bn.register_forward_hook(
                    lambda _, __, result, found=found: found.append(_some(result))
                )
            )
    try:
        with torch.inference_mode():
            for image in images:
                model.logits(image)
    finally:
        for hook in hooks:
            hook.remove()
    return read, made


def _some(values: Tensor) -> Tensor:
    """Evenly spaced values, at a distance that has no divisor in common with the map's sides.

    A multiple of the width would only ever meet the same columns, and the first is the border.
    """
    flat = values.reshape(-1)
    distance = max(1, len(flat) // _SAMPLES)
    while math.gcd(distance, len(flat)) > 1:
        distance -= 1
    return flat[::distance].clone()


def _symmetric(values: Tensor) -> Range:
    peak = max(float(values.abs().max()), _TINY)
    return _least(values, [(-peak * share, peak * share) for share in _SHARES], lambda x: x)


def _around_zero(values: Tensor) -> Range:
    """Move one end after the other to where the error behind the activation is least."""
    low, high = min(float(values.min()), -_TINY), max(float(values.max()), _TINY)
    found = Range(low=low, high=high)
    for _ in range(2):
        found = _least(values, [(found.low, high * share) for share in _SHARES], functional.silu)
        found = _least(values, [(low * share, found.high) for share in _SHARES], functional.silu)
    return found


def _least(
    values: Tensor, candidates: list[tuple[float, float]], curve: Callable[[Tensor], Tensor]
) -> Range:
    """The candidate with the least squared error of 8-bit rounding behind the curve."""
    exact = curve(values)

    def error(ends: tuple[float, float]) -> float:
        step = (ends[1] - ends[0]) / _STEPS
        least = round(ends[0] / step)
        rounded = (values / step).round_().clamp_(least, least + _STEPS).mul_(step)
        return float((curve(rounded) - exact).square_().sum())

    low, high = min(candidates, key=error)
    return Range(low=low, high=high)
