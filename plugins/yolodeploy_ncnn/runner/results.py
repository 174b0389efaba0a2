"""The results that the runner writes: a framed file; `README.md` beside this file describes it.

They are data from another machine: sizes are checked before anything is made of them.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolodeploy_ncnn.runner.job import Job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC, VERSION = b"YDRESULT", 1
RESULT_BYTES = 1 << 30  # no larger file is read
_HEAD = struct.Struct("<8sI32s")
_RECORD = struct.Struct("<4sQ")
_OUTPUT, _END = struct.Struct("<3I"), struct.Struct("<2I")
_TAGS = (b"META", b"OUTP", b"TIME", b"FAIL")
_AXES = 4
_TEXT_BYTES, _META_LINES = 1 << 24, 10_000
_RUNS = 1 << 20  # of all bursts
_OTHERS = 16  # records besides outputs
_LONGEST_MS = 3_600_000.0


@dataclass(frozen=True)
class TimedRun:
    """Milliseconds of a run: from start to end, and of them those without a processor (0 if not counted)."""

    passed: float
    waited: float


@dataclass(frozen=True)
class Results:
    """What came back. `meta` is what the machine says about itself.

    `outputs`, of `predict`, has an array `[images, ...]` for each output of the model. `bursts`, of `time`, has the
    runs by model and round; `delay_counted` says whether the machine counts the time without a processor.
    """

    meta: Mapping[str, str]
    outputs: tuple[NDArray[np.float32], ...] = ()
    bursts: tuple[tuple[tuple[TimedRun, ...], ...], ...] = ()
    delay_counted: bool = False


class RunnerFailed(ValueError):
    """The runner itself says that it failed; the message is the runner's."""


def parse_results(data: bytes, job: Job) -> Results:
    """Check and read a results file.

    ValueError if it is damaged, cut off, of another job, not complete, or has numbers that are not finite;
    RunnerFailed if it says that the job failed there.
    """
    records = _records(data, job)
    meta: dict[str, str] = {}
    for tag, payload in records:
        if tag == b"FAIL":
            raise RunnerFailed(_text(payload, "FAIL")[:1000])
        if tag == b"META":
            meta.update(_meta(_text(payload, "META")))
    rest = [(tag, payload) for tag, payload in records if tag != b"META"]
    if job.mode == "predict":
        return Results(meta, outputs=_outputs(rest, job))
    if [tag for tag, _ in rest] != [b"TIME"]:
        raise ValueError("the results must have one record TIME")
    return _timed(meta, _text(rest[0][1], "TIME"), job)


def _records(data: bytes, job: Job) -> list[tuple[bytes, memoryview]]:
    """The tag and content of every record, once the end mark and the checksum are found right."""
    _check_head(data, job)
    view, place = memoryview(data), _HEAD.size
    most = _OTHERS + job.count * len(job.models[0].outputs)
    records: list[tuple[bytes, memoryview]] = []
    while place + _RECORD.size <= len(data):
        tag, length = _RECORD.unpack_from(data, place)
        start = place + _RECORD.size
        content = view[start : start + length] if length <= len(data) - start else None
        if content is None:
            break
        if tag == b"END!":
            _check_end(view[:place], content, view[start + length :], len(records))
            return records
        if tag not in _TAGS:
            raise ValueError(f"the results have a record {tag!r}, which is unknown")
        if len(records) == most:
            raise ValueError(f"the results have more than {most} records")
        records.append((tag, content))
        place = start + length
    raise ValueError("the results end without their end mark: they were cut off")


def _check_head(data: bytes, job: Job) -> None:
    if not _HEAD.size <= len(data) <= RESULT_BYTES:
        raise ValueError(f"the results have {len(data)} bytes: they were cut off, or are too many")
    magic, version, found = _HEAD.unpack_from(data)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError(f"these are no results of a runner of version {VERSION}: build it again")
    if found != job.id.encode():
        raise ValueError("the results are those of another job")


def _check_end(before: memoryview, content: memoryview, behind: memoryview, count: int) -> None:
    if len(content) != _END.size or behind:
        raise ValueError("the results go on behind their end mark")
    if _END.unpack(content) != (count, zlib.crc32(before)):
        raise ValueError("the checksum of the results is wrong: they were damaged on the way")


def _text(payload: memoryview, tag: str) -> str:
    if len(payload) > _TEXT_BYTES:
        raise ValueError(f"the record {tag} of the results has {len(payload)} bytes")
    return bytes(payload).decode("utf-8", "replace")


def _meta(text: str) -> dict[str, str]:
    lines = text.splitlines()
    if len(lines) > _META_LINES:
        raise ValueError(f"a record META of the results has {len(lines)} lines")
    split = (line.partition(" ") for line in lines)
    return {key[:100]: value[:2000] for key, _, value in split}


def _outputs(
    records: Sequence[tuple[bytes, memoryview]], job: Job
) -> tuple[NDArray[np.float32], ...]:
    """Stack the outputs of all images; each must be there once, in order, in one shape."""
    import numpy as np

    names = job.models[0].outputs
    if [tag for tag, _ in records] != [b"OUTP"] * (job.count * len(names)):
        raise ValueError(
            f"the results must have {job.count * len(names)} outputs, found {len(records)} records"
        )
    found: list[list[NDArray[np.float32]]] = [[] for _ in names]
    for number, (_, payload) in enumerate(records):
        image, place = divmod(number, len(names))
        array = _array(payload, image, place)
        if array.shape != (found[place] or [array])[0].shape:
            raise ValueError(f"output {names[place]} changes its shape at image {image}")
        if not np.isfinite(array).all():
            raise ValueError(f"output {names[place]} of image {image} has NaN or infinite numbers")
        found[place].append(array)
    return tuple(np.stack(arrays) for arrays in found)


def _array(payload: memoryview, image: int, place: int) -> NDArray[np.float32]:
    import numpy as np

    wrong = f"the record of output {place} of image {image} is malformed"
    if len(payload) < _OUTPUT.size:
        raise ValueError(wrong)
    *numbers, axes = _OUTPUT.unpack_from(payload)
    start = _OUTPUT.size + 4 * axes
    if numbers != [image, place] or not 1 <= axes <= _AXES or start > len(payload):
        raise ValueError(wrong)
    shape = struct.unpack_from(f"<{axes}I", payload, _OUTPUT.size)
    if 0 in shape or 4 * math.prod(shape) != len(payload) - start:
        raise ValueError(wrong)
    return np.frombuffer(payload[start:], "<f4").astype(np.float32, copy=False).reshape(shape)


def _timed(meta: Mapping[str, str], text: str, job: Job) -> Results:
    """The bursts by model; every round must have one of each."""
    lines = text.splitlines()
    if lines[:1] not in (["delay counted"], ["delay unknown"]):
        raise ValueError("the record TIME must say whether delays are counted")
    count, found = len(job.models), dict[tuple[str, str], tuple[TimedRun, ...]]()
    rounds = range(job.first_round, job.first_round + job.rounds)
    wanted = [(str(number), str(model)) for model in range(count) for number in rounds]
    if (runs := text.count(":")) > _RUNS:
        raise ValueError(f"the results have {runs} runs: these are too many")
    if len(lines) - 1 != len(wanted):
        raise ValueError(f"the results must have {job.rounds} bursts of each of {count} models")
    for line in lines[1:]:
        words = line.split(" ")
        if len(words) < 3 + job.burst_runs or words[0] != "burst":
            raise ValueError(f"{line[:80]!r} is not a burst of at least {job.burst_runs} runs")
        found[words[1], words[2]] = tuple(map(_run, words[3:]))
    if found.keys() != set(wanted):
        raise ValueError(f"the results must have {job.rounds} bursts of each of {count} models")
    bursts = tuple(tuple(found[str(n), str(model)] for n in rounds) for model in range(count))
    return Results(meta, bursts=bursts, delay_counted=lines[0] == "delay counted")


def _run(word: str) -> TimedRun:
    passed, _, waited = word.partition(":")
    try:
        run = TimedRun(float(passed), float(waited))
    except ValueError:
        raise ValueError(f"{word[:40]!r} is not the time of a run") from None
    if not (0 < run.passed < _LONGEST_MS and 0 <= run.waited < _LONGEST_MS):
        raise ValueError(f"{word[:40]!r} is not the time of a run")
    return run
