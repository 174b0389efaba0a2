"""The step `compress_weights`: weights stored as integers, computed with in floating point.

A constant of 8 or 4 bits reaches the convolution through Convert, Subtract (zero point), Multiply
(scale) and Reshape (groups): the form that OpenVINO's plugins know as compressed weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Artifact, Context, Probe, Trial
from yolodeploy.errors import StepFailed
from yolodeploy_openvino import layers
from yolodeploy_openvino.export import MODEL_FILE, forget_origin
from yolodeploy_openvino.graph import Structure, feeding, structure
from yolodeploy_openvino.toolchain import openvino
from yolodeploy_torch.structure import choose

if TYPE_CHECKING:
    from yolodeploy_openvino.params import CompressWeights

_WIDTHS = np.linspace(1.0, 0.6, 17, dtype=np.float32)  # of the range that clips nothing
_SIDE_TYPES = (np.uint8, np.float16)
_SMALLEST = np.finfo(np.float16).tiny  # of an fp16 number with full precision


def compress_weights(artifact: Artifact, params: CompressWeights, context: Context) -> Path:
    """Write `model.xml` and `model.bin` with integer weights.

    Raises PlanRefused for a selector without a match, StepFailed if no float weights are left.
    """
    model, found = _read(artifact)
    nodes = _chosen(model, found, params)
    for number, node in enumerate(nodes.values()):
        context.progress(number / len(nodes), f"{number}/{len(nodes)} layers")
        _compress(node, params)
    _save(model, context.work)
    return context.work


def probe(artifact: Artifact, params: CompressWeights, context: Context) -> Probe:  # noqa: ARG001
    """Single layers with integer weights."""
    model, found = _read(artifact)
    nodes = _chosen(model, found, params)

    def write(trial: Trial, folder: Path) -> None:
        fresh, _ = _read(artifact)
        _compress(layers.convolutions(fresh, found)[trial.layer], params)
        _save(fresh, folder)

    trials = (
        Trial(name, found.parts[name], f"{_bits(node, params)} bits", layers.weights(node).size)
        for name, node in nodes.items()
    )
    return Probe(tuple(trials), write, {"params": params.model_dump(mode="json")})


@dataclass(frozen=True)
class Affine:
    """Weights `(integers - zeros) * scales`: integers `[out, groups, size]`, the rest `[..., 1]`."""

    integers: NDArray[np.uint8]
    zeros: NDArray[np.uint8]
    scales: NDArray[np.float16]


def affine(rows: NDArray[np.float32], bits: int) -> Affine:
    """Encode each group of `[out, groups, size]` with the scale of least squared error.

    The range of a group, with 0 in it, is tried at several fractions of its width: clipping the
    extremes lets the other values be closer.
    """
    top = 2**bits - 1
    low, high = (
        np.minimum(rows.min(2, keepdims=True), 0),
        np.maximum(rows.max(2, keepdims=True), 0),
    )
    least = np.full(low.shape, np.inf, np.float32)
    best = Affine(np.zeros(rows.shape, np.uint8), *(np.zeros(low.shape, t) for t in _SIDE_TYPES))
    for width in _WIDTHS:
        scales = np.maximum((high - low) * width / top, _SMALLEST).astype(np.float16)
        zeros = np.clip(np.rint(-low * width / scales), 0, top)
        integers = np.clip(np.rint(rows / scales.astype(np.float32)) + zeros, 0, top)
        error = (((integers - zeros) * scales - rows) ** 2).sum(2, keepdims=True)
        better = error < least
        least = np.where(better, error, least)
        best = Affine(
            np.where(better, integers, best.integers).astype(np.uint8),
            np.where(better, zeros, best.zeros).astype(np.uint8),
            np.where(better, scales, best.scales),
        )
    return best


def _read(artifact: Artifact) -> tuple[Any, Structure]:
    model = openvino().Core().read_model(artifact.path / MODEL_FILE)
    return model, structure(model)


def _save(model: Any, folder: Path) -> None:
    forget_origin(model)
    openvino().save_model(model, folder / MODEL_FILE, compress_to_fp16=False)


def _chosen(model: Any, found: Structure, params: CompressWeights) -> dict[str, Any]:
    """The convolutions to compress, by name; those with integer weights already stay as they are."""
    kept = choose(params.keep_float, found.parts, "keep_float")
    nodes = {
        name: node
        for name, node in layers.convolutions(model, found).items()
        if name not in kept and layers.form(node) in ("fp16", "fp32")
    }
    if not nodes:
        raise StepFailed("no float weights are left to compress. Remove `compress_weights`.")
    return nodes


def _bits(convolution: Any, params: CompressWeights) -> int:
    size = int(np.prod(convolution.input(1).get_shape()[1:]))
    return 8 if size % params.shared else params.bits


def _compress(convolution: Any, params: CompressWeights) -> None:
    ov = openvino()
    ops = ov.opset13
    old = feeding(convolution, 1)
    exact = layers.weights(convolution)
    bits = _bits(convolution, params)
    types = {8: ov.Type.u8, 4: ov.Type.u4}
    size = exact[0].size if bits == 8 else params.shared
    encoded = affine(exact.reshape(len(exact), -1, size), bits)
    integers, zeros = (
        ops.convert(ops.constant(values, dtype=types[bits]), "f32")
        for values in (encoded.integers, encoded.zeros)
    )
    scales = ops.convert(ops.constant(encoded.scales), "f32")
    expanded = ops.multiply(ops.subtract(integers, zeros), scales)
    node = ops.reshape(expanded, list(exact.shape), special_zero=False)
    node.set_friendly_name(old.get_friendly_name())
    layers.set_weights(convolution, node)
