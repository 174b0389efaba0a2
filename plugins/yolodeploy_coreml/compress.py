"""The steps `palettize` and `quantize_weights`: smaller weights, computed with as fp16 or fp32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from yolodeploy.backend import Probe, Trial
from yolodeploy.digest import file_digest
from yolodeploy.errors import PlanRefused
from yolodeploy_coreml.job import Form, Job
from yolodeploy_coreml.optimize import optimize
from yolodeploy_coreml.schemes import Scheme, int4, int8, palettes
from yolodeploy_torch.structure import choose

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context
    from yolodeploy.transforms import Params
    from yolodeploy_coreml.params import Palettize, QuantizeWeights, WeightParams

_PROBED = 4  # bits of the smallest form that `optimize` considers


def run_palettize(artifact: Artifact, params: Params, context: Context) -> Path:
    """Give the convolutions in front of the decoder tables of values.

    Raises PlanRefused for a selector that matches nothing, or a budget that cannot be
    met or a package without float weights, DataError for calibration images that are no use.
    """
    options, result = cast("Palettize", params), context.work / "artifact"
    job = Job(artifact, options, context)
    given = _given(job, options.layers)
    if options.optimize:
        optimize(job, options, given, result)
        return result
    forms = job.compressed(_palettes(job, options, given))
    job.write(forms, f"{options.bits}-bit palettes", result)
    return result


def run_quantize_weights(artifact: Artifact, params: Params, context: Context) -> Path:
    """Store the convolutions in front of the decoder as int8 or int4; raises as `run_palettize`."""
    options, result = cast("QuantizeWeights", params), context.work / "artifact"
    job = Job(artifact, options, context)
    forms = job.compressed(dict.fromkeys(job.free, _integers(job, options)))
    job.write(forms, f"int{options.bits} weights", result)
    return result


def probe_palettize(artifact: Artifact, params: Params, context: Context) -> Probe:
    """The layers one by one, with the bits that they are given; with `optimize`, with the fewest."""
    options = cast("Palettize", params)
    job = Job(artifact, options, context)
    given = _given(job, options.layers)
    if options.optimize:
        given = {**dict.fromkeys(job.free, _PROBED), **given}
    bits = {name: given.get(name, options.bits) for name in job.free}
    labels = {name: f"{bits[name]}-bit palette" for name in job.free}
    return probe(job, options, context, job.compressed(_palettes(job, options, given)), labels)


def probe_quantize_weights(artifact: Artifact, params: Params, context: Context) -> Probe:
    """The layers one by one."""
    options = cast("QuantizeWeights", params)
    job = Job(artifact, options, context)
    schemes = dict.fromkeys(job.free, _integers(job, options))
    labels = dict.fromkeys(job.free, f"int{options.bits} weights")
    return probe(job, options, context, job.compressed(schemes), labels)


def _palettes(job: Job, options: Palettize, given: Mapping[str, int]) -> dict[str, Scheme]:
    def scheme(name: str) -> Scheme:
        bits, ios18 = given.get(name, options.bits), job.editor.is_ios18
        return palettes(bits, options.mode, options.group_size, ios18=ios18)

    return {name: scheme(name) for name in job.free}


def _integers(job: Job, options: QuantizeWeights) -> Scheme:
    return int4(options.block_size) if options.bits == 4 else int8(ios18=job.editor.is_ios18)


def _given(job: Job, layers: Mapping[str, int]) -> dict[str, int]:
    """Bits by layer; raises PlanRefused if a layer gets two numbers or none can have what it gets."""
    found: dict[str, int] = {}
    for selector, bits in layers.items():
        if selector == "decode":
            raise PlanRefused("`layers: decode`: decoding is never compressed. Remove it.")
        for name in choose([selector], job.editor.parts, "layers"):
            if found.setdefault(name, bits) != bits:
                raise PlanRefused(
                    f"`layers` gives {name} both {found[name]} and {bits} bits. Name every layer once."
                )
    lost = sorted(found.keys() - set(job.free))
    if lost:
        raise PlanRefused(
            f"`layers` gives bits to {lost[0]}, which stays in floating point. Name others, or "
            "change keep_float."
        )
    return found


def probe(
    job: Job,
    options: WeightParams,
    context: Context,
    forms: Mapping[str, Form],
    labels: Mapping[str, str],
) -> Probe:
    """The layers of `forms` one by one; `labels` say what each of them is."""
    parts = job.editor.parts
    trials = [Trial(n, parts[n], labels[n], job.weight(n).size) for n in forms]
    key: dict[str, object] = {"params": options.model_dump(mode="json")}
    if options.calibrated:
        key["images"] = [file_digest(image) for image in context.data["calibration"].images]

    def write(trial: Trial, folder: Path) -> None:
        job.write({trial.layer: forms[trial.layer]}, trial.scheme, folder)

    return Probe(tuple(trials), write, key)
