"""The step `sparsify`: the smallest weights become zero, and only the others are stored.

Magnitude pruning (S. Han and others, "Learning both Weights and Connections for Efficient Neural
Networks", 2015) without the training that follows there; with `compensate` the weights that stay
make up for those that go, as in SparseGPT (E. Frantar, D. Alistarh, 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from yolodeploy.errors import PlanRefused
from yolodeploy_coreml.compress import probe
from yolodeploy_coreml.encodings import Array, Mask
from yolodeploy_coreml.job import Form, Job
from yolodeploy_coreml.program import Encoded
from yolodeploy_coreml.schemes import pruned

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context, Probe
    from yolodeploy.transforms import Params
    from yolodeploy_coreml.params import Sparsify


def run_sparsify(artifact: Artifact, params: Params, context: Context) -> Path:
    """Prune the convolutions in front of the decoder.

    Raises PlanRefused for a selector that matches nothing, if no layer gets smaller or one loses
    every weight, and for layers that are compressed already; DataError for calibration images that
    are no use.
    """
    options, result = cast("Sparsify", params), context.work / "artifact"
    job = Job(artifact, options, context, joint=False)
    job.write(_forms(job, options), _label(options), result)
    return result


def probe_sparsify(artifact: Artifact, params: Params, context: Context) -> Probe:
    """The layers one by one."""
    options = cast("Sparsify", params)
    job = Job(artifact, options, context, joint=False)
    labels = dict.fromkeys(job.free, _label(options))
    return probe(job, options, context, _forms(job, options), labels)


def _label(options: Sparsify) -> str:
    return f"{options.n_m} sparse" if options.n_m else f"{100 * options.ratio:g} % sparse"


def _forms(job: Job, options: Sparsify) -> dict[str, Form]:
    kept = _kept({name: job.weight(name) for name in job.free}, options)
    schemes = {name: pruned(mask, ios18=job.editor.is_ios18) for name, mask in kept.items()}
    return job.compressed(schemes, Encoded.stored)


def _kept(weights: Mapping[str, Array], options: Sparsify) -> dict[str, Mask]:
    """Which weights of every layer stay; layers that an N:M pattern does not fit are left out."""
    if options.pattern is not None:
        zeros, run = options.pattern
        return {n: _of_each_run(w, zeros, run) for n, w in weights.items() if not w.shape[1] % run}
    if options.scope == "layer":
        return {name: largest(weight, options.ratio) for name, weight in weights.items()}
    return _of_all(weights, options.ratio)


def largest(weight: Array, ratio: float) -> Mask:
    """All weights but the share `ratio` of the smallest; of equal ones the first go."""
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
    together = largest(np.concatenate([weight.ravel() for weight in weights.values()]), ratio)
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
