"""The steps `palettize`, `quantize_weights` and `sparsify`: smaller weights, computed with as floats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from yolodeploy.backend import Probe, Trial
from yolodeploy.compress import choose
from yolodeploy.errors import PlanRefused
from yolodeploy.system import file_digest
from yolodeploy_coreml.mlpackage import Encoded
from yolodeploy_coreml.params import Palettize, QuantizeWeights, Sparsify
from yolodeploy_coreml.weights.compressor import CompressedLayer, Compressor
from yolodeploy_coreml.weights.optimize import optimize
from yolodeploy_coreml.weights.schemes import integer_scheme, palette_scheme, sparse_scheme
from yolodeploy_coreml.weights.sparsify import weights_to_keep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from yolodeploy.backend import Artifact, Context, Params
    from yolodeploy_coreml.params import WeightParams
    from yolodeploy_coreml.weights.schemes import Scheme

_PROBED = 4  # bits of the smallest palette that `optimize` considers


def compress_weights(artifact: Artifact, params: Params, context: Context) -> Path:
    """Compress the weights of the convolutions in front of the decoder, as `params` say.

    Raises PlanRefused for a selector that matches nothing, for layers that are compressed already,
    if no layer gets smaller, and for a budget that cannot be met; DataError for calibration images
    that are too few or unreadable.
    """
    options, result = cast("WeightParams", params), context.work / "artifact"
    compressor = Compressor(artifact, options, context)
    if isinstance(options, Palettize) and options.optimize:
        optimize(compressor, options, _bits_by_hand(compressor, options), result)
    else:
        layers = _compressed(compressor, options)
        text = next(iter(layers.values())).label
        if isinstance(options, Palettize):
            text = f"{options.bits}-bit palettes"  # some layers may have other numbers of bits
        compressor.write(layers, text, result)
    return result


def probe_weights(artifact: Artifact, params: Params, context: Context) -> Probe:
    """Every layer alone, as the step would compress it; with `optimize`, at the fewest bits."""
    options = cast("WeightParams", params)
    compressor = Compressor(artifact, options, context)
    if isinstance(options, Palettize) and options.optimize:
        options = options.model_copy(update={"bits": _PROBED})
    layers, parts = _compressed(compressor, options), compressor.editor.parts
    key: dict[str, object] = {"params": params.model_dump(mode="json")}
    if options.calibrated:
        key["images"] = [file_digest(image) for image in context.data["calibration"].images]

    def write(trial: Trial, folder: Path) -> None:
        compressor.write({trial.layer: layers[trial.layer]}, trial.scheme, folder)

    trials = [
        Trial(name, parts[name], layer.label, compressor.weight(name).size)
        for name, layer in layers.items()
    ]
    return Probe(tuple(trials), write, key)


def _compressed(compressor: Compressor, options: WeightParams) -> dict[str, CompressedLayer]:
    size = Encoded.stored if isinstance(options, Sparsify) else Encoded.size
    return compressor.compressed(_schemes(compressor, options), size)


def _schemes(compressor: Compressor, options: WeightParams) -> Mapping[str, Scheme]:
    """How each layer is compressed, by name."""
    names, ios18 = compressor.names, compressor.editor.is_ios18
    if isinstance(options, Palettize):
        mode, size = options.mode, options.group_size
        bits = {**dict.fromkeys(names, options.bits), **_bits_by_hand(compressor, options)}
        return {name: palette_scheme(bits[name], mode, size, ios18=ios18) for name in names}
    if isinstance(options, QuantizeWeights):
        block = options.block_size if options.bits == 4 else None
        return dict.fromkeys(names, integer_scheme(options.bits, block, ios18=ios18))
    options = cast("Sparsify", options)
    kept = weights_to_keep({name: compressor.weight(name) for name in names}, options)
    share = options.n_m or f"{100 * options.ratio:g} %"
    return {
        name: sparse_scheme(mask, f"{share} sparse", ios18=ios18) for name, mask in kept.items()
    }


def _bits_by_hand(compressor: Compressor, options: Palettize) -> dict[str, int]:
    """Bits by layer, as `layers` says; PlanRefused where it contradicts itself or keep_float."""
    found: dict[str, int] = {}
    for selector, bits in options.layers.items():
        if selector == "decode":
            raise PlanRefused("`layers: decode`: decoding is never compressed. Remove it.")
        for name in choose([selector], compressor.editor.parts, "layers"):
            if found.setdefault(name, bits) != bits:
                raise PlanRefused(
                    f"`layers` gives {name} both {found[name]} and {bits} bits. Name every layer once."
                )
    lost = sorted(found.keys() - set(compressor.names))
    if lost:
        raise PlanRefused(
            f"`layers` gives bits to {lost[0]}, which stays in floating point. Name others, or "
            "change keep_float."
        )
    return found
