"""The progress of the jobs of several recipes: a table that changes on a terminal, a line for each job elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from yolodeploy.jobs.job import Job, Outcome
from yolodeploy.jobs.messages import BEGIN, REPORT, SAY, Replay
from yolodeploy.system import Console

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress:
    """Shows what jobs do and which have ended; a row for each recipe, which ends with the recipe's last job."""

    def __init__(self, console: Console, jobs: Iterable[Job]) -> None:
        self._console, self._replay = console, Replay(console)
        self._jobs = {job.id: job for job in jobs}
        self._count = 0
        self._recipes = Counter(job.recipe for job in self._jobs.values())
        self._rows: dict[str, TaskID] = {}
        self._stack = contextlib.ExitStack()
        self._bars: Any = None

    def __enter__(self) -> Self:
        if self._console.level >= 0 and sys.stderr.isatty():
            self._bars = self._stack.enter_context(_bars())
            for name, total in self._recipes.items():
                self._rows[name] = self._bars.add_task(name, total=total, detail="")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self, said: Sequence[tuple[str, list[Any]]]) -> None:
        """Show what jobs said, by id."""
        for id_, message in said:
            if message and message[0] == SAY:
                self._replay.take(message)
            elif message and message[0] in (BEGIN, REPORT) and id_ in self._jobs:
                self._doing(self._jobs[id_], message)

    def _doing(self, job: Job, message: list[Any]) -> None:
        if self._bars:
            text = str(message[2]) if message[0] == BEGIN else f"{float(message[2]):.0%}"
            step = _step(job)
            detail = text if message[0] == BEGIN else f"{step} {text}"
            self._bars.update(self._rows[job.recipe], detail=detail[:40])

    def done(self, job: Job, outcome: Outcome) -> None:
        """Show that a job has ended."""
        self._count += 1
        if self._bars:
            row = self._rows[job.recipe]
            self._bars.update(row, advance=1, detail="" if outcome.ok else "failed")
            return
        end = f"({outcome.seconds:.1f} s)" if outcome.ok else "did not end well"
        self._console.info(f"{self._count} of {len(self._jobs)}: {job.title} {end}")


def _step(job: Job) -> str:
    return job.title.partition(": ")[2]


def _bars() -> Any:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=RichConsole(stderr=True),
    )
