"""Statistics of every convolution over the calibration images, from running the saved program.

The program runs in our executor; its gradient tells how much an error of each output channel shows in
the model's output, as `features` measures that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from yolodeploy_coreml.mlpackage import MATRIX, Layer, Package
from yolodeploy_coreml.runtime import Head, Program, padding
from yolodeploy_coreml.weights.features import noise_features
from yolodeploy_coreml.weights.gptq import Moments
from yolodeploy_torch.model import threads

POSITIONS = 800  # per image and layer; more change the rounding less than other images do

Images = Iterable[NDArray[np.float32]]


def moments(
    package: Package, layers: Iterable[Layer], images: Images, seed: int
) -> Mapping[str, Moments]:
    """Moments of every layer, by name; images are float32 `[1, channels, height, width]` in 0..1.

    One image is in memory at a time. The sums are computed with one thread: their order, and with
    it the last bits, depends on the number of threads.
    """
    head = Head(package, raw=True)
    program = Program(package, head.reads)
    sums = _Sums({layer.output: layer for layer in layers}, seed)
    with threads(1):
        for image in images:
            sums.add(program, head, torch.from_numpy(image) * 255)
    return sums.means()


class _Sums:
    """Sums of the moments of each layer over the images seen so far."""

    def __init__(self, layers: Mapping[str, Layer], seed: int) -> None:
        self._layers = layers
        self._random = torch.Generator().manual_seed(seed)
        self._sums: dict[str, Moments] = {}
        self._detections = 0.0
        self._images = 0

    def add(self, program: Program, head: Head, image: Tensor) -> None:
        taps: dict[str, Tensor] = {}

        def tap(output: str, arguments: Mapping[str, Any], result: Tensor) -> Tensor:
            layer = self._layers.get(output)
            if layer is None:
                return result
            columns = _columns(layer.kind, arguments, result.shape[2:], self._random)
            self._add_inputs(layer.name, columns, result.shape[1])
            taps[layer.name] = torch.zeros_like(result, requires_grad=True)
            return result + taps[layer.name]

        features, detections = noise_features(head, head(program.evaluate(image, tap)))
        signs = torch.randint(0, 2, features.shape, generator=self._random) * 2.0 - 1
        gradients = torch.autograd.grad((features * signs).sum(), list(taps.values()))
        for name, gradient in zip(taps, gradients, strict=True):
            squares = gradient[0].square()
            self._sums[name].gain.add_(squares.sum((1, 2)) if squares.dim() > 1 else squares)
        self._detections += detections
        self._images += 1

    def _add_inputs(self, name: str, columns: Tensor, outputs: int) -> None:
        sizes = columns.shape[1:]
        if name not in self._sums:
            zeros = torch.zeros
            self._sums[name] = Moments(zeros(*sizes, sizes[-1]), zeros(sizes), zeros(outputs))
        share = 1 / len(columns)
        if columns.dim() > 2:
            groups = columns.transpose(0, 1)
            self._sums[name].second.baddbmm_(groups.mT, groups, alpha=share)
        else:
            self._sums[name].second.addmm_(columns.T, columns, alpha=share)
        self._sums[name].mean.add_(columns.mean(0))

    def means(self) -> Mapping[str, Moments]:
        images, detections = self._images, self._detections
        return {
            name: Moments(sums.second / images, sums.mean / images, sums.gain / detections)
            for name, sums in self._sums.items()
        }


def _columns(
    kind: str, arguments: Mapping[str, Any], size: torch.Size, random: torch.Generator
) -> Tensor:
    """The inputs `[positions, columns]` of a convolution at some positions of its output; a matrix has one.

    Of a grouped convolution `[positions, groups, columns]`.
    """
    if kind == MATRIX:
        inputs: Tensor = arguments["x"].detach()
        return inputs
    x, weight = arguments["x"].detach(), arguments["weight"]
    vertical, horizontal = padding(arguments["pad_type"], arguments.get("pad"))
    stride = arguments["strides"].tolist()
    x = functional.pad(x, (*horizontal, *vertical))
    windows = x.unfold(2, weight.shape[2], stride[0]).unfold(3, weight.shape[3], stride[1])[0]
    chosen = torch.randperm(size[0] * size[1], generator=random)[:POSITIONS]
    picked = windows[:, chosen // size[1], chosen % size[1]]
    groups = x.shape[1] // weight.shape[1]
    sizes = (-1,) if groups == 1 else (groups, -1)
    return picked.permute(1, 0, 2, 3).reshape(len(chosen), *sizes)
