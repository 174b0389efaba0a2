"""What a host may answer: typed, bounded, and what was asked for. Anything else is refused, with the host named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from yolodeploy.errors import HostProblem
from yolodeploy.system import adapter, quotable
from yolodeploy.worker.noise import Ratio
from yolodeploy.worker.throughput import Throughput
from yolodeploy.worker.turns import SAMPLES, Timing

TEXT = 300  # characters of a name or note
_MOST = 1 << 20  # of anything that is counted: images of a batch, threads, runs
_MOST_FACTS = 50  # about what slows a machine down
_SHARE = 1.0 + 1e-9

Text = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: quotable(text, TEXT))]
Count = Annotated[int, Field(ge=1, le=_MOST)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Machine(BaseModel):
    """What a worker says of its machine, see `worker.machine.described`."""

    system: Text
    release: Text
    arch: Text
    cpu: Text
    processors: Count
    board: Text
    names: list[Text] = Field(max_length=100)
    features: list[Text] = Field(max_length=1000)
    emulated: bool
    python: Text
    distributions: dict[Text, Text | None] = Field(max_length=100)
    free_bytes: int = Field(ge=0, lt=1 << 63)
    kept: list[_Digest]


class _Runtime(BaseModel):
    name: Text
    version: Text
    device: Text
    note: Text = ""


class Opened(BaseModel):
    """What a worker says of an artifact that it opened."""

    runtime: _Runtime
    batch: int = Field(ge=1, le=1024)


class Output(BaseModel):
    """One output of a prediction, whose values follow as a blob."""

    name: str
    shape: list[int] = Field(min_length=1, max_length=8)


def typed(kind: Any, value: Any, host: str) -> Any:
    """A host's answer as a typed value; HostProblem if it is something else."""
    try:
        return adapter(kind).validate_python(value)
    except (ValidationError, RecursionError) as error:
        found = error.errors()[0]["loc"] if isinstance(error, ValidationError) else ()
        where = quotable(".".join(map(str, found))) or "the answer"
        raise HostProblem(
            f"host `{host}`: {where} is not what an answer has there, so nothing that it said is used. Run again."
        ) from None


def timing_of(
    value: Any, host: str, *, others: Sequence[str], threads: int, serving: int
) -> Timing:
    """A host's answer as the timing of an artifact and these others; HostProblem if its figures make no sense."""
    timing: Timing = typed(Timing, value, host)
    return sound(timing, host, others=others, threads=threads, serving=serving)


def sound(
    timing: Timing, host: str, *, others: Sequence[str], threads: int, serving: int
) -> Timing:
    """The timing of an artifact and these others; HostProblem if its figures make no sense."""
    wrong = _wrong(timing, others, threads, serving)
    if wrong is None:
        return timing
    raise HostProblem(
        f"host `{host}`: {wrong} of its timing is not what was asked for or no figure, so nothing that it said is used. Run again."
    )


def _wrong(timing: Timing, others: Sequence[str], threads: int, serving: int) -> str | None:
    """The name of what is wrong with a timing."""
    served = timing.throughput
    sound = {
        "median_ms": _positive(timing.median_ms, timing.p90_ms),
        "p90_ms": timing.p90_ms >= timing.median_ms,
        "peak_memory_mb": _positive(timing.peak_memory_mb),
        "others_ms": set(timing.others_ms) == set(others) and _positive(*timing.others_ms.values()),
        "ratios": set(timing.ratios) == set(others) and all(map(_is_ratio, timing.ratios.values())),
        "samples_ms": _are_samples(timing.samples_ms, others),
        "image": timing.image is not None and _is_ratio(timing.image),
        "runs": 0 < timing.runs <= _MOST and 0 < timing.batch <= _MOST,
        "threads": timing.threads == threads,
        "cpu": timing.cpu == quotable(timing.cpu, TEXT),
        "waited": _is_share(timing.waited),
        "climate": _is_climate(timing.climate),
        "throughput": _serves(served, serving) if served else not serving,
    }
    return next((name for name, is_sound in sound.items() if not is_sound), None)


def _are_samples(samples: Mapping[str, Sequence[float]], others: Sequence[str]) -> bool:
    few = all(0 < len(each) <= SAMPLES and _positive(*each) for each in samples.values())
    return few and set(samples) == {"", *others}


def _serves(found: Throughput, threads: int) -> bool:
    ratios = all(map(_is_ratio, (found.rate, found.reference, found.ratio)))
    counts = 0 < found.batch <= _MOST and 0 < found.requests <= _MOST
    return ratios and counts and found.threads == threads and _is_share(found.waited)


def _positive(*values: float) -> bool:
    return all(math.isfinite(value) and value > 0 for value in values)


def _is_ratio(ratio: Ratio) -> bool:
    return _positive(ratio.low, ratio.value, ratio.high) and ratio.low <= ratio.value <= ratio.high


def _is_share(share: float | None) -> bool:
    return share is None or 0 <= share <= _SHARE


def _is_climate(climate: Mapping[str, object]) -> bool:
    """Whether it is what `worker.machine.climate` says before and after: short texts and numbers, and lists of names."""
    pairs = [
        pair for each in climate.values() if isinstance(each, Mapping) for pair in each.items()
    ]
    told = set(climate) <= {"before", "after"} and all(
        isinstance(each, Mapping) for each in climate.values()
    )
    return (
        told
        and len(pairs) <= 2 * _MOST_FACTS
        and all(_is_fact(name, value) for name, value in pairs)
    )


def _is_fact(name: object, value: object) -> bool:
    if name == "governors":
        names = value if isinstance(value, list | tuple) else ()
        return 0 < len(names) <= _MOST_FACTS and all(map(_is_text, names))
    if isinstance(value, int | float):
        return _is_text(name) and abs(value) < _MOST  # which NaN is not
    return _is_text(name) and _is_text(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value == quotable(value, TEXT)
