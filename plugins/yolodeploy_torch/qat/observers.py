"""Observe what the convolutions of a float model read and make: the ranges that training starts from."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule

from yolodeploy.compress import Range
from yolodeploy_torch.graph import Activation, Graph, graph_in
from yolodeploy_torch.model import Trainable, norms, unified_scales

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


def observe(model: GraphModule, images: Iterable[Tensor]) -> InitialRanges:
    """The ranges of least squared error on images `[1, 3, H, W]`.

    Those of what is read are symmetric. The error of what is made is taken behind the activation.
    """
    graph = graph_in(model)
    scales = unified_scales(graph)
    norm_of = {name: norm for name, norm in norms(graph).items() if name in scales}
    read, made = _samples(
        model, images, scales, {name: norm.name for name, norm in norm_of.items()}
    )
    shared: dict[str, list[Tensor]] = defaultdict(list)
    for name, scale in scales.items():
        shared[scale] += read[name]
    activations = {name: _activation(model, graph, norm.name) for name, norm in norm_of.items()}
    return InitialRanges(
        {scale: _symmetric(torch.cat(found)) for scale, found in shared.items()},
        {name: _around_zero(torch.cat(found), activations[name]) for name, found in made.items()},
    )


def _activation(model: GraphModule, graph: Graph, value: str) -> Callable[[Tensor], Tensor]:
    """What follows a value; nothing if more than one node reads it."""
    readers = graph.readers()[value]
    if len(readers) == 1 and isinstance(readers[0], Activation):
        return model.get_submodule(readers[0].name)
    return lambda x: x


def _samples(
    model: GraphModule, images: Iterable[Tensor], scales: Iterable[str], norm_of: Mapping[str, str]
) -> tuple[Samples, Samples]:
    """What convolutions read, and what the normalisations behind them give, both by convolution."""
    read: Samples = {name: [] for name in scales}
    made: Samples = {name: [] for name in norm_of}
    run = Trainable(model)
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for name, found in read.items():
            hooks.enter_context(
                model.get_submodule(name).register_forward_pre_hook(
                    lambda _, given, found=found: found.append(_sample(given[0]))
                )
            )
        for name, found in made.items():
            hooks.enter_context(
                model.get_submodule(norm_of[name]).register_forward_hook(
                    lambda _, __, result, found=found: found.append(_sample(result))
                )
            )
        for image in images:
            run(image)
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


def _around_zero(values: Tensor, activation: Callable[[Tensor], Tensor]) -> Range:
    """Move one end after the other to where the error behind the activation is smallest."""
    low, high = min(float(values.min()), -_TINY), max(float(values.max()), _TINY)
    found = Range(low=low, high=high)
    for _ in range(2):
        found = _best(values, [(found.low, high * share) for share in _SHARES], activation)
        found = _best(values, [(low * share, found.high) for share in _SHARES], activation)
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
