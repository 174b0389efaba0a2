"""For how long this process was ready to run but had no processor.

Linux counts it for every thread (`/proc/[pid]/task/[tid]/schedstat`, second number, in nanoseconds; see
Documentation/scheduler/sched-stats.rst). Beside a busy neighbour a run takes as long as the scheduler lets it
wait; less that, it takes about as long as on an idle machine.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from types import TracebackType


class RunDelay:
    """The delay of all threads of this process while it is entered; zero where it is not counted.

    `share` is the delay relative to the time that passed, known at the end (None: not counted).
    """

    share: float | None = None

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._files: dict[str, int] = {}
        self._began = self._first = 0.0

    def __enter__(self) -> RunDelay:
        self.notice_threads()
        self._began, self._first = time.perf_counter(), self._total()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        passed = (time.perf_counter() - self._began) * self._threads
        if self._files:
            self.share = round(min(max(self._total() - self._first, 0.0) / passed, 1.0), 4)
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def notice_threads(self) -> None:
        """Count the threads that began since the last time, and not those that ended."""
        try:
            threads = {entry.name for entry in Path("/proc/self/task").iterdir()}
        except OSError:  # not Linux
            return
        for ended in self._files.keys() - threads:
            os.close(self._files.pop(ended))
        for begun in threads - self._files.keys():
            with contextlib.suppress(OSError):  # a kernel without this counter, or the thread ended
                self._files[begun] = os.open(f"/proc/self/task/{begun}/schedstat", os.O_RDONLY)

    def seconds(self) -> float:
        """The delay so far where one thread computes; 0 where several do, because they wait at the same time."""
        return self._total() if self._threads == 1 else 0.0

    def _total(self) -> float:
        return sum(map(_delay, self._files.values())) * 1e-9


def _delay(file: int) -> int:
    try:
        return int(os.pread(file, 64, 0).split()[1])
    except OSError:  # the thread ended
        return 0
