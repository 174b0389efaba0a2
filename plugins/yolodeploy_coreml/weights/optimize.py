"""`palettize: {optimize: ...}`: the bits of every layer, chosen by what they cost under a budget.

What a layer costs at some number of bits is predicted from its rounding error, weighted by how
much each of its output channels shows in the model's output (see `moments.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.errors import PlanRefused
from yolodeploy.system import tree_bytes
from yolodeploy_coreml.params import NOISE, Palettize
from yolodeploy_coreml.weights.bit_allocation import (
    Choice,
    Option,
    least_noise,
    least_size,
    noise_of,
    size_of,
)
from yolodeploy_coreml.weights.compressor import CompressedLayer, Compressor
from yolodeploy_coreml.weights.schemes import palette_scheme

# Not 1 and 2 bits: their errors are too large to add up, and other layers spend what they save.
_BITS, _BITS_IOS18 = (4, 6, 8), (3, 4, 6, 8)
FLOAT = 0  # the bits of a layer that stays as it is


@dataclass(frozen=True)
class _Candidates:
    """Every layer compressed to several numbers of bits, and the same as options to choose from.

    Another option of a layer, with `FLOAT` bits, is to leave it as it is.
    """

    options: Mapping[str, tuple[Option, ...]]
    compressed: Mapping[str, Mapping[int, CompressedLayer]]
    float_size: int  # bytes of all these layers in floating point

    def chosen(self, choice: Choice) -> dict[str, CompressedLayer]:
        return {n: self.compressed[n][o.bits] for n, o in choice.items() if o.bits != FLOAT}


def optimize(
    compressor: Compressor, params: Palettize, by_hand: Mapping[str, int], folder: Path
) -> None:
    """Write the best package into `folder`; `by_hand` are bits of layers that the recipe sets.

    Raises PlanRefused if the budget cannot be met, with the best that was reached.
    """
    candidates = _candidates(compressor, params, by_hand)
    if params.optimize == "accuracy" and params.max_mb:
        choice = _fill(compressor, candidates, params.max_mb, folder)
        limit = params.max_noise
    else:
        limit = params.max_noise or NOISE[params.optimize or "size"]
        choice = least_size(candidates.options, limit)
        _write(compressor, candidates, choice, folder)
    _require(tree_bytes(folder) / 1e6, noise_of(choice), params.max_mb, limit)


def _candidates(
    compressor: Compressor, params: Palettize, by_hand: Mapping[str, int]
) -> _Candidates:
    ios18 = compressor.editor.is_ios18
    options, compressed, total = {}, {}, 0
    for number, name in enumerate(compressor.names):
        bits = (by_hand[name],) if name in by_hand else _BITS_IOS18 if ios18 else _BITS
        schemes = [palette_scheme(b, "kmeans", params.group_size, ios18=ios18) for b in bits]
        found = dict(zip(bits, compressor.variants(name, schemes), strict=True))
        size = compressor.current(name).stored()
        total += size
        compressed[name] = {b: c for b, c in found.items() if c.encoded.stored() < size}
        sized = [Option(b, c.encoded.stored(), c.noise) for b, c in compressed[name].items()]
        if name not in by_hand or not sized:
            sized.append(Option(FLOAT, size, 0.0))
        options[name] = tuple(sized)
        compressor.progress(number, len(compressor.names))
    return _Candidates(options, compressed, total)


def _fill(compressor: Compressor, candidates: _Candidates, max_mb: float, folder: Path) -> Choice:
    """Write the package with the least noise of at most `max_mb`, or the smallest if none is."""
    size = round(max_mb * 1e6) - (compressor.size - candidates.float_size)  # of these layers alone
    while True:
        choice = least_noise(candidates.options, size)
        _write(compressor, candidates, choice, folder)
        over = round((tree_bytes(folder) / 1e6 - max_mb) * 1e6)
        if over <= 0 or size_of(choice) > size:
            return choice
        size = size_of(choice) - over


def _write(compressor: Compressor, candidates: _Candidates, choice: Choice, folder: Path) -> None:
    layers = candidates.chosen(choice)
    if not layers:
        least = min(o.noise for options in candidates.options.values() for o in options if o.bits)
        raise PlanRefused(
            "the budget leaves every layer in floating point: the best that a single layer's palette "
            f"reached is noise {least:.3g}. Raise max_noise, lower max_mb, or remove the step."
        )
    bits = sorted({option.bits for option in choice.values()} - {FLOAT})
    compressor.write(layers, f"palettes of {', '.join(map(str, bits))} bits", folder)


def _require(size: float, noise: float, max_mb: float | None, max_noise: float | None) -> None:
    reached = f"the best that was reached is {size:.2f} MB with noise {noise:.3g}"
    if max_mb is not None and size > max_mb:
        raise PlanRefused(
            f"`max_mb: {max_mb:g}` cannot be met: {reached}. Raise it, or raise max_noise, keep fewer "
            "layers in floating point, or write optimize: accuracy for the closest package of a size."
        )
    if max_noise is not None and noise > max_noise:
        raise PlanRefused(
            f"a noise of {max_noise:g} (`max_noise`) cannot be met: {reached}. Raise it, raise max_mb, or give "
            "fewer layers their bits by hand."
        )
