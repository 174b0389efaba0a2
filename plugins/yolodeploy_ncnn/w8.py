"""The `w8` step: convolution weights as a codebook of 256 values and a byte per weight.

The values of each layer's codebook are chosen by k-means, so they lie where its weights do;
evenly spaced 8-bit numbers would spend most of theirs on the rare large weights. ncnn looks
the values up when it loads the model and computes as it does with float weights: the file gets
smaller, the speed stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolodeploy.backend import Probe, Trial
from yolodeploy.errors import StepFailed
from yolodeploy.transforms import Params
from yolodeploy_ncnn import model, weights

if TYPE_CHECKING:
    from pathlib import Path

    from yolodeploy.backend import Artifact, Context


class W8(Params):
    """Store convolution weights in 8 bits: a codebook of 256 values per layer; compute in float."""


def run_w8(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001 - it has none
    """Compress the float weights of an artifact; the graph stays as it is, byte for byte.

    Layers that decode boxes stay float (the sum over distances would carry its weights'
    error into every box), and so do layers that a codebook would make larger; layers that
    compute in int8 are not touched. StepFailed where that leaves nothing to do, or the weights do
    not fit the graph.
    """
    loaded = model.read(artifact)
    chosen = _chosen(loaded)
    layers = {}
    for number, name in enumerate(chosen, 1):
        layers[name] = _compressed(loaded, name)
        context.progress(number / len(chosen), f"{number}/{len(chosen)} layers")
    result = context.work / "artifact"
    result.mkdir()
    loaded.write(result, layers)
    return result


def probe_w8(artifact: Artifact, params: Params, context: Context) -> Probe:  # noqa: ARG001 - it needs neither
    """Every layer that the step would compress, alone."""
    loaded = model.read(artifact)
    layers = {loaded.places[name].name: name for name in _chosen(loaded)}
    trials = tuple(
        Trial(place, loaded.places[name].part, "8-bit codebook", loaded.kernels[name].count)
        for place, name in layers.items()
    )

    def write(trial: Trial, folder: Path) -> None:
        name = layers[trial.layer]
        loaded.write(folder, {name: _compressed(loaded, name)})

    return Probe(trials, write)


def _chosen(loaded: model.Model) -> list[str]:
    found = [
        name
        for name, block in loaded.kernels.items()
        if block.tag in weights.FLOATS
        and loaded.places[name].part != "dfl"
        and weights.stored_size(block.count) < 4 + block.stop - block.start
    ]
    if not found:
        raise StepFailed("no float weights are left that a codebook makes smaller. Remove `w8`.")
    return found


def _compressed(loaded: model.Model, name: str) -> bytes:
    """All blocks of a layer, its weights as a codebook."""
    from yolodeploy.codebook import balance, kmeans

    block, *rest = [block for block in loaded.blocks if block.layer.name == name]
    matrix = block.floats(loaded.data).reshape(block.layer.number(weights.OUT_CHANNELS), -1)
    codebook = kmeans(matrix, weights.ENTRIES, balance(matrix))
    return (
        weights.stored(codebook) + loaded.data[block.stop : rest[-1].stop if rest else block.stop]
    )
