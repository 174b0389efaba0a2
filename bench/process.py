"""Run whole commands and take the operating system's own account of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Run:
    """One finished process: wall and CPU seconds, and the peak memory of its largest process in MB."""

    wall: float
    cpu: float
    peak_mb: float


def run(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end; one that fails stops the benchmark with what it printed."""
    log = cwd / "bench.log"
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(
            f"{' '.join(map(str, command))} failed:\n{log.read_text(errors='replace')[-2000:]}"
        )
    scale = 1 if sys.platform == "darwin" else 1024
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 1e6)


def in_turns(runs: int, *commands: Callable[[], Run]) -> list[list[Run]]:
    """Run commands A B, B A, A B, ... so that a drift of the machine's speed hits all of them."""
    results: list[list[Run]] = [[] for _ in commands]
    for number in range(runs):
        order = range(len(commands)) if number % 2 == 0 else reversed(range(len(commands)))
        for index in order:
            results[index].append(commands[index]())
    return results


def median(runs: Sequence[Run], figure: str) -> float:
    """Median of one figure."""
    return statistics.median(getattr(run, figure) for run in runs)


def ratio(ours: Sequence[Run], theirs: Sequence[Run], figure: str) -> float:
    """Median of the ratios pair by pair."""
    return statistics.median(
        getattr(a, figure) / getattr(b, figure) for a, b in zip(ours, theirs, strict=True)
    )
