"""The step `w8`: convolution weights as a codebook of 256 values and a byte per weight.

The values of each layer's codebook are chosen by k-means, so they lie where its weights do;
evenly spaced 8-bit numbers would spend most of theirs on the rare large weights. ncnn looks
the values up when it loads the model and computes as it does with float weights: the file gets
smaller, the speed stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolodeploy.backend import Params, Probe, Trial
from yolodeploy.errors import StepFailed
from yolodeploy_ncnn import bin_file, model

if TYPE_CHECKING:
    from pathlib import Path

    from yolodeploy.backend import Artifact, Context


class W8(Params):
    """Store convolution weights in 8 bits: a codebook of 256 values per layer; compute in float."""


def run_w8(artifact: Artifact, params: Params, context: Context) -> Path:  # noqa: ARG001 - it has none
    """Compress the float weights of an artifact; the graph stays as it is, byte for byte.

    Three kinds of layers are left alone: those that decode boxes (the sum over distances would carry
    the error of its weights into every box), those that a codebook would make larger, and those
    that compute in int8. StepFailed if that leaves nothing to do, or if the weights do not fit the graph.
    """
    loaded = model.read(artifact)
    chosen = _compressible(loaded)
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
    chosen = _compressible(loaded)
    trials = tuple(
        Trial(name, loaded.parts[name], "8-bit codebook", loaded.kernels[name].count)
        for name in chosen
    )

    def write(trial: Trial, folder: Path) -> None:
        loaded.write(folder, {trial.layer: _compressed(loaded, trial.layer)})

    return Probe(trials, write)


def _compressible(loaded: model.Model) -> tuple[str, ...]:
    """Names of the convolutions that a codebook makes smaller."""
    found = tuple(
        name
        for name, block in loaded.kernels.items()
        if block.tag in bin_file.FLOATS
        and loaded.parts[name] != "dfl"
        and bin_file.codebook_size(block.count) < 4 + block.stop - block.start
    )
    if not found:
        raise StepFailed("no float weights are left that a codebook makes smaller. Remove `w8`.")
    return found


def _compressed(loaded: model.Model, layer: str) -> bytes:
    """All blocks of a layer, with its weights as a codebook."""
    from yolodeploy.compress import balance, kmeans

    block, *rest = loaded.blocks_of(layer)
    matrix = block.floats(loaded.data).reshape(block.layer.number(bin_file.OUT_CHANNELS), -1)
    codebook = kmeans(matrix, bin_file.ENTRIES, balance(matrix))
    stop = rest[-1].stop if rest else block.stop
    return bin_file.codebook_block(codebook) + loaded.data[block.stop : stop]
