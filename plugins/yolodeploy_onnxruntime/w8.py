"""The step `w8`: weights stored as int8, computed with in floating point.

The weights reach a layer through Cast and Mul, which a runtime folds into float weights when it loads the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from yolodeploy.backend import Artifact, Context, Params, Probe, Trial
from yolodeploy.compress import carry, choose
from yolodeploy.errors import StepFailed
from yolodeploy_onnxruntime.int8 import closest
from yolodeploy_onnxruntime.model_file import drop_unused, read_model, tensor, write_model
from yolodeploy_onnxruntime.params import W8
from yolodeploy_onnxruntime.structure import Structure, find_structure, outputs_last

_LEVELS = 127


def run_w8(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.onnx` with int8 weights.

    Raises PlanRefused for a selector that matches nothing, StepFailed if no float weights are left.
    """
    model = read_model(artifact.path)
    found = find_structure(model, artifact.path)
    _write(artifact, model, found, _chosen(found, cast("W8", params)), context.work)
    return context.work


def probe_w8(artifact: Artifact, params: Params, context: Context) -> Probe:  # noqa: ARG001
    """Every layer that the step would compress, alone."""
    model = read_model(artifact.path)
    found = find_structure(model, artifact.path)

    def write(trial: Trial, folder: Path) -> None:
        _write(artifact, read_model(artifact.path), found, (trial.layer,), folder)

    trials = tuple(
        Trial(name, found.parts[name], "8 bits", found.weights(name).size)
        for name in _chosen(found, cast("W8", params))
    )
    return Probe(trials, write, {"params": params.model_dump(mode="json")})


def _chosen(found: Structure, params: W8) -> tuple[str, ...]:
    """The layers to compress; those with integer weights stay as they are."""
    kept = choose(params.keep_float, found.parts, "keep_float")
    forms = found.forms
    names = tuple(n for n in found.layers if n not in kept and forms[n] in ("fp16", "fp32"))
    if not names:
        raise StepFailed("no float weights are left to compress. Remove `w8`.")
    return names


def _write(
    artifact: Artifact,
    model: onnx.ModelProto,
    found: Structure,
    names: tuple[str, ...],
    folder: Path,
) -> None:
    made: list[tuple[list[TensorProto], list[NodeProto], str]] = [
        _stored(found, name) for name in names
    ]
    layers = {node.name: node for node in model.graph.node}
    expanding = [node for _, nodes, _ in made for node in nodes]
    for name, (tensors, _, value) in zip(names, made, strict=True):
        layers[name].input[1] = value
        model.graph.initializer.extend(tensors)
    nodes = [*expanding, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unused(model)
    write_model(model, folder)
    carry(artifact.path, folder)


def _stored(found: Structure, name: str) -> tuple[list[TensorProto], list[NodeProto], str]:
    """The integers and scales of a layer, the operators that expand them, and the value they make."""
    exact = np.asarray(found.weights(name), np.float32)
    axis = exact.ndim - 1 if outputs_last(found.layers[name]) else 0
    weights = closest(np.moveaxis(exact, axis, 0), _LEVELS)
    sides = [1] * exact.ndim
    sides[axis] = -1
    value = f"{name}.weight.w8"
    stored, scales, floats = (f"{value}.{end}" for end in ("int", "scale", "float"))
    tensors = [
        tensor(stored, np.moveaxis(weights.integers, 0, axis)),
        tensor(scales, weights.scales.reshape(sides)),
    ]
    nodes = [
        helper.make_node("Cast", [stored], [floats], to=TensorProto.FLOAT),
        helper.make_node("Mul", [floats, scales], [value]),
    ]
    return tensors, nodes, value
