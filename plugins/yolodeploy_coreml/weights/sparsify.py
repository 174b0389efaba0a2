"""Which weights `sparsify` keeps: the largest; the others become zero and are not stored.

Magnitude pruning (S. Han and others, "Learning both Weights and Connections for Efficient Neural
Networks", 2015) without the training that follows there; with `compensate` the weights that stay
make up for those that go, as in SparseGPT (E. Frantar, D. Alistarh, 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from yolodeploy.errors import PlanRefused
from yolodeploy_coreml.mlpackage import Array, Mask

if TYPE_CHECKING:
    from yolodeploy_coreml.params import Sparsify


def weights_to_keep(weights: Mapping[str, Array], options: Sparsify) -> dict[str, Mask]:
    """The weights of each layer that stay, without layers that an N:M pattern does not fit.

    Raises PlanRefused if a layer would lose every weight.
    """
    if options.pattern is not None:
        zeros, run = options.pattern
        return {n: _of_each_run(w, zeros, run) for n, w in weights.items() if not w.shape[1] % run}
    if options.scope == "layer":
        return {name: _largest(weight, options.ratio) for name, weight in weights.items()}
    return _of_all(weights, options.ratio)


def _largest(weight: Array, ratio: float) -> Mask:
    """All weights but the share `ratio` of the smallest; of equal ones, the first go."""
    order = np.argsort(np.abs(weight), axis=None, kind="stable")
    kept = np.ones(weight.size, np.bool_)
    kept[order[: int(ratio * weight.size)]] = False
    return kept.reshape(weight.shape)


def _of_each_run(weight: Array, zeros: int, run: int) -> Mask:
    """All but the `zeros` smallest of every `run` neighbours along the input channels."""
    out, channels, *sides = weight.shape
    runs = np.abs(weight).reshape(out, channels // run, run, *sides)
    order = np.argsort(runs, axis=2, kind="stable")
    mask = np.ones(runs.shape, np.bool_)
    np.put_along_axis(mask, order[:, :, :zeros], values=False, axis=2)
    return mask.reshape(weight.shape)


def _of_all(weights: Mapping[str, Array], ratio: float) -> dict[str, Mask]:
    """All layers' weights but the share `ratio` of the smallest."""
    together = _largest(np.concatenate([weight.ravel() for weight in weights.values()]), ratio)
    ends = np.cumsum([weight.size for weight in weights.values()])[:-1]
    parts = np.split(together, ends)
    kept = {}
    for (name, weight), part in zip(weights.items(), parts, strict=True):
        if not part.any():
            raise PlanRefused(
                f"scope: global leaves nothing of {name}. Lower ratio, add it to keep_float, or "
                "write scope: layer."
            )
        kept[name] = part.reshape(weight.shape)
    return kept
