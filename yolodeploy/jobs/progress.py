"""The progress of the jobs of several recipes: a table that changes on a terminal, a line for each job elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from yolodeploy.jobs.job import Job, Outcome
from yolodeploy.jobs.messages import BEGIN, NOTE, REPORT, SAY, Replay
from yolodeploy.system import Console, Pace, new_bars, progress_text, shows_bars

if TYPE_CHECKING:
    from rich.progress import TaskID

_MARGIN = 3  # lines of a terminal that are kept free


class Progress:
    """Shows what jobs do and which have ended; a row for each recipe, which ends with the recipe's last job.

    Where that is more than the terminal has room for, rows come and go with the work, below one that counts recipes.
    """

    def __init__(self, console: Console, jobs: Iterable[Job]) -> None:
        self._console, self._replay = console, Replay(console)
        self._jobs = {job.id: job for job in jobs}
        self._ended = set[str]()  # what workers said before that may arrive later
        self._recipes = Counter(job.recipe for job in self._jobs.values())
        self._left = Counter(self._recipes)  # how many jobs of each have not ended
        self._rows: dict[str, TaskID] = {}
        self._all: TaskID | None = None  # counts recipes that have no job left
        self._stack = contextlib.ExitStack()
        self._paces: dict[str, Pace] = {}
        self._bars: Any = None

    def __enter__(self) -> Self:
        if self._console.level >= 0 and shows_bars():
            self._bars = self._stack.enter_context(new_bars(counts=True))
            crowded = len(self._recipes) > self._bars.console.height - _MARGIN
            if crowded:
                self._all = self._add("recipes", len(self._recipes), visible=True)
            for name, total in self._recipes.items():
                self._rows[name] = self._add(name, total, visible=not crowded)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _add(self, name: str, total: int, *, visible: bool) -> TaskID:
        added: TaskID = self._bars.add_task(name, total=total, visible=visible, text="", pace=None)
        return added

    def take(self, said: Sequence[tuple[str, list[Any]]]) -> None:
        """Show what jobs said, by id."""
        for id_, message in said:
            if message and message[0] == SAY:
                self._replay.take(message)
            elif message and message[0] == NOTE and id_ in self._jobs:
                self._note(f"{self._jobs[id_].title}: {message[2]}")
            elif (
                message and message[0] in (BEGIN, REPORT) and id_ in self._jobs.keys() - self._ended
            ):
                self._doing(self._jobs[id_], message)

    def _note(self, text: str) -> None:
        """A line that stays; on a terminal, where the row says it, with -v."""
        (self._console.detail if self._bars else self._console.info)(text)

    def _doing(self, job: Job, message: list[Any]) -> None:
        if not self._bars:
            return
        text = str(message[2])
        if message[0] == REPORT:
            done, now = float(message[2]), time.monotonic()
            pace = self._paces.setdefault(job.id, Pace(now))
            pace.take(now, done, str(message[3]))
            text = f"{_step(job)} {done:.0%} {progress_text(pace, now, str(message[3]))}"
        self._bars.update(self._rows[job.recipe], text=text, visible=True)

    def done(self, job: Job, outcome: Outcome) -> None:
        """Show that a job has ended."""
        self._ended.add(job.id)
        if self._bars:
            row = self._rows[job.recipe]
            self._bars.update(row, advance=1, text="failed" if outcome.fault else "")
            if outcome.other:
                self._console.detail(f"{job.title}: {outcome.other}")
            self._left[job.recipe] -= 1
            if self._all is not None and not self._left[job.recipe]:
                self._bars.update(row, visible=False)
                self._bars.update(self._all, advance=1)
            return
        bad = " did not end well" if outcome.fault else f": {outcome.other}"
        end = f" ({outcome.seconds:.1f} s)" if outcome.ok else bad
        self._console.info(f"{len(self._ended)} of {len(self._jobs)}: {job.title}{end}")


def _step(job: Job) -> str:
    return job.title.partition(": ")[2]
