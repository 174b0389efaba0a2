"""The step `compress_weights`: weights stored as integers, computed with in floating point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolodeploy.backend import Artifact, Context, Params, Probe, Trial
from yolodeploy.compress import carry_layers, choose
from yolodeploy.errors import StepFailed
from yolodeploy_openvino.graph import Structure, find_structure
from yolodeploy_openvino.toolchain import read_model, save_model

if TYPE_CHECKING:
    from yolodeploy_openvino.params import CompressWeights


def run_compress_weights(artifact: Artifact, params: Params, context: Context) -> Path:
    """Write `model.xml` and `model.bin` with integer weights.

    Raises PlanRefused for a selector that matches nothing, StepFailed if no float weights are left.
    """
    from yolodeploy_openvino.integer_weights import compress

    options = cast("CompressWeights", params)
    model = read_model(artifact.path)
    nodes = _chosen(model, find_structure(model, artifact.path), options)
    for number, node in enumerate(nodes.values()):
        context.progress(number / len(nodes), f"{number}/{len(nodes)} layers")
        compress(node, options.bits, options.shared)
    save_model(model, context.work)
    carry_layers(artifact.path, context.work)
    return context.work


def probe_compress_weights(artifact: Artifact, params: Params, context: Context) -> Probe:  # noqa: ARG001
    """Every layer that the step would compress, alone."""
    from yolodeploy_openvino.integer_weights import bits_of, compress
    from yolodeploy_openvino.layers import weights

    options = cast("CompressWeights", params)
    model = read_model(artifact.path)
    found = find_structure(model, artifact.path)

    def write(trial: Trial, folder: Path) -> None:
        fresh = read_model(artifact.path)
        compress(found.convolutions(fresh)[trial.layer], options.bits, options.shared)
        save_model(fresh, folder)
        carry_layers(artifact.path, folder)

    trials = []
    for name, node in _chosen(model, found, options).items():
        scheme = f"{bits_of(node, options.bits, options.shared)} bits"
        trials.append(Trial(name, found.parts[name], scheme, weights(node).size))
    return Probe(tuple(trials), write, {"params": params.model_dump(mode="json")})


def _chosen(model: Any, found: Structure, params: CompressWeights) -> dict[str, Any]:
    """The convolutions to compress, by name; those with integer weights stay as they are."""
    from yolodeploy_openvino.layers import form

    kept = choose(params.keep_float, found.parts, "keep_float")
    nodes = {
        name: node
        for name, node in found.convolutions(model).items()
        if name not in kept and form(node) in ("fp16", "fp32")
    }
    if not nodes:
        raise StepFailed("no float weights are left to compress. Remove `compress_weights`.")
    return nodes
