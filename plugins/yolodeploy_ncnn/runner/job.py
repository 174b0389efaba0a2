"""The job that the runner reads: a text file; `README.md` beside this file describes it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Literal

_NAME = re.compile(r"(?!\.)[\w.-]{1,100}", re.ASCII)  # of a file beside the job
_BLOB = re.compile(r"[^\s,]{1,200}")

Form = Literal["u8-chw", "u8-hwc", "f32-chw"]


@dataclass(frozen=True)
class JobModel:
    """A network: the names of its two files beside the job, of its input blob and its output blobs."""

    param: str
    bin: str
    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What the runner shall do with the files in its folder.

    `images` names a file with `count` images one after the other, uint8 `[C, H, W]` or `[H, W, C]`, or float32
    `[C, H, W]` in 0..1, as `form` says; `shape` is (channels, height, width). `predict` runs the only model on every
    image. `time` runs the models in turns on the first image, `rounds` times from `first_round` on (the order
    of the models depends on the number of the round); `cores` pins all threads.
    """

    id: str
    mode: Literal["predict", "time"]
    models: tuple[JobModel, ...]
    shape: tuple[int, int, int]
    images: str
    form: Form
    count: int
    threads: int = 1
    cores: tuple[int, ...] = ()
    warm_up: int = 3
    first_round: int = 0
    rounds: int = 12
    settle_ms: float = 15.0
    burst_ms: float = 60.0
    burst_runs: int = 2
    results: str = "results.bin"


def new_id() -> str:
    """An id for a job, never used before: results that bear another one belong to another job."""
    return secrets.token_hex(16)


def job_text(job: Job) -> str:
    """The content of the job file; ValueError for names that the file cannot hold."""
    for name in (job.images, job.results, *(n for m in job.models for n in (m.param, m.bin))):
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r}: a file of a job must have a name of letters, digits, `_`, `-` and `.`"
            )
    for blob in (name for model in job.models for name in (model.input, *model.outputs)):
        if not _BLOB.fullmatch(blob):
            raise ValueError(f"{blob!r}: a blob's name must have no space and no comma")
    lines = ["yolodeploy-runner-job 1", f"id {job.id}", f"mode {job.mode}"]
    lines += [f"threads {job.threads}", f"warm_up {job.warm_up}"]
    lines += ["cores " + " ".join(map(str, job.cores))] if job.cores else []
    lines += ["shape {} {} {}".format(*job.shape), f"images {job.images} {job.form} {job.count}"]
    lines += [f"model {m.param} {m.bin} {m.input} {','.join(m.outputs)}" for m in job.models]
    if job.mode == "time":
        lines += [f"rounds {job.first_round} {job.rounds}"]
        lines += [f"burst {job.settle_ms:g} {job.burst_ms:g} {job.burst_runs}"]
    return "\n".join([*lines, f"results {job.results}", "end", ""])
