"""Times artifacts on a device as `worker.turns` does in a process: bursts in turns, until more would turn no verdict."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from yolodeploy.backend import NativeWork
from yolodeploy.hosts.adb.phone import climate
from yolodeploy.hosts.answers import sound
from yolodeploy.worker.turns import BRIEF, ROUNDS, SECONDS, Burst, figures, precise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yolodeploy.backend import NativeResults
    from yolodeploy.hosts.adb.program import Program, Runnable
    from yolodeploy.hosts.host import Timed
    from yolodeploy.worker.turns import Timing

_LONGEST, _TIMES = 3600.0, 1 << 24  # seconds of a job, bytes of its times


def time_jobs(
    plugin: Runnable, runner: Program, timed: Timed, cores: Sequence[int], cpu: str
) -> Timing:
    """Time an artifact in turns with others on these cores of the device; HostProblem if that fails."""
    before, names = climate(runner.adb), list(timed.others)
    times: list[list[Burst]] = [[] for _ in range(1 + len(names))]
    end, first = time.monotonic() + SECONDS, 0
    parts = []
    for rounds in (BRIEF,) if timed.brief else ROUNDS:
        parts.append(_run(plugin, runner, timed, cores, (first, rounds - first)))
        for bursts, more in zip(times, parts[-1].bursts, strict=True):
            bursts.extend(more)
        first = rounds
        if precise(names, timed.limits, times) or time.monotonic() >= end:
            break
    waits = [part.waited for part in parts if part.waited is not None]
    on = " (any core: their clocks are not known)"
    if cores:
        on = f" (core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))})"
    timing = replace(
        figures(names, times),
        peak_memory_mb=round(parts[0].peak_memory_mb, 1),
        threads=timed.threads,
        cpu=f"{cpu}{on}",
        waited=max(waits, default=None),
        climate={"before": before, "after": climate(runner.adb)},
    )
    host = runner.adb.name
    return sound(timing, host, others=names, threads=timed.threads, serving=0)


def _run(
    plugin: Runnable, runner: Program, timed: Timed, cores: Sequence[int], rounds: tuple[int, int]
) -> NativeResults:
    tensor = np.ascontiguousarray(np.load(timed.tensor)[0], "<f4")
    channels, height, width = tensor.shape
    work = NativeWork(
        mode="time",
        artifacts=[timed.artifact, *timed.others.values()],
        target=timed.target,
        shape=(channels, height, width),
        images=1,
        pixels="float32",
        threads=timed.threads,
        cores=tuple(cores),
        first=rounds[0],
        rounds=rounds[1],
    )
    return runner.run(plugin.native_job(work), [tensor.tobytes()], _TIMES, _LONGEST)
