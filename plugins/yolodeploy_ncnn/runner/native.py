"""The runner as yolodeploy uses it on machines without Python."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from yolodeploy.backend import Artifact, NativeJob, NativeResults, NativeWork
from yolodeploy.errors import EnvironmentProblem, PlanRefused
from yolodeploy.worker.turns import DISTURBED, Burst
from yolodeploy_ncnn import model
from yolodeploy_ncnn.bin_file import BIN_FILE
from yolodeploy_ncnn.param_file import PARAM_FILE
from yolodeploy_ncnn.runner.built import Architecture, find_runner
from yolodeploy_ncnn.runner.job import Job, JobModel, job_text, new_id
from yolodeploy_ncnn.runner.results import Results, TimedRun, parse_results
from yolodeploy_ncnn.runtime import refuse_foreign

_BUILT: dict[str, tuple[Architecture, ...]] = {
    "aarch64": ("android", "arm64"),  # a static program for Linux is the second choice
    "x86_64": ("native",),
}
_IMAGES, _JOB = "images.bin", "job.txt"
_KIB, _DIGITS = 1024, 15


def find_native(machine: str) -> Path:
    """The runner for a machine, as `uname -m` calls it; EnvironmentProblem if there is none."""
    kinds = _BUILT.get(machine)
    if kinds is None:
        raise EnvironmentProblem(
            f"there is no runner for a machine of type {machine[:40]}, only for {' and '.join(_BUILT)}"
        )
    for kind in kinds:
        try:
            return find_runner(kind)
        except EnvironmentProblem as error:
            missing = error
    raise missing


def native_job(work: NativeWork) -> NativeJob:
    """A job of the runner, and the files that it needs; PlanRefused for a GPU, which the runner cannot use."""
    if work.target.gpu:
        raise PlanRefused(
            f"the runner for machines without Python computes on the CPU, not with `gpu: {work.target.gpu}`. Measure on a host "
            "with Python, or without --on."
        )
    files: dict[str, bytes | Path] = {}
    models = tuple(_model(n, artifact, files) for n, artifact in enumerate(work.artifacts))
    job = Job(
        id=new_id(),
        mode=work.mode,
        models=models,
        shape=work.shape,
        images=_IMAGES,
        form="u8-chw" if work.pixels == "uint8" else "f32-chw",
        count=work.images,
        threads=work.threads,
        cores=work.cores,
        first_round=work.first,
        rounds=work.rounds,
    )
    files[_JOB] = job_text(job).encode()
    return NativeJob((_JOB,), files, _IMAGES, job.results, partial(read_results, job))


def _model(number: int, artifact: Artifact, files: dict[str, bytes | Path]) -> JobModel:
    graph = model.read(artifact).graph
    refuse_foreign(graph)
    names = f"{number}.param", f"{number}.bin"
    files.update(zip(names, (artifact.path / PARAM_FILE, artifact.path / BIN_FILE), strict=True))
    return JobModel(*names, graph.input, tuple(graph.outputs))


def read_results(job: Job, data: bytes) -> NativeResults:
    """The figures of a results file, see `NativeJob`."""
    found = parse_results(data, job)
    return NativeResults(
        version=found.meta.get("ncnn", ""),
        meta=found.meta,
        outputs=dict(zip(job.models[0].outputs, found.outputs, strict=False)),
        bursts=[[_burst(runs, job.threads) for runs in rounds] for rounds in found.bursts],
        peak_memory_mb=_megabytes(found.meta.get("peak_memory", "")),
        waited=_waited(found),
    )


def _megabytes(text: str) -> float:
    """Of a line of /proc in kB; 0, which a host refuses, if it is not a number."""
    number = text.partition(" ")[0]
    return int(number) * _KIB / 1e6 if number.isdecimal() and len(number) <= _DIGITS else 0.0


def _burst(runs: tuple[TimedRun, ...], threads: int) -> Burst:
    """As `turns` counts: less the wait where one thread computes, because several wait at the same time."""
    pairs = [(run.passed, run.waited if threads == 1 else 0.0) for run in runs]
    every = [max(passed - waited, 1e-6) for passed, waited in pairs]
    clean = [
        left
        for left, (passed, waited) in zip(every, pairs, strict=True)
        if waited <= DISTURBED * passed
    ]
    return Burst(every, clean)


def _waited(found: Results) -> float | None:
    runs = [run for rounds in found.bursts for burst in rounds for run in burst]
    if not (found.delay_counted and runs):
        return None
    passed = sum(run.passed for run in runs)
    return round(min(sum(run.waited for run in runs) / passed, 1.0), 4)
