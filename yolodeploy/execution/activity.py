"""Tells another process what this process is doing, so that it can report native crashes.

A segmentation fault gives Python no chance to print anything. So while plugins work, another process reads from a
pipe what is being done, and the trace of Python's fault handler. If the pipe closes while work is under way, that
process writes the log and the message. The process that runs jobs (`jobs/child.py`) is read by the one that started
it; for commands that work in their own process, `cli/crash_watcher.py` is started to read.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import threading
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple, cast

MARK = "\0"  # begins our lines, but none of the fault handler's
_WATCHER = "yolodeploy.cli.crash_watcher"


class Run(NamedTuple):
    """The command under way: its words, its recipes, its store, and whether --json is given."""

    command: Sequence[str]
    recipes: Sequence[str]
    cache: str | None
    json: bool


class _Reader:
    """The process that reads the pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._work: dict[int, list[str]] = {}  # by thread, innermost last
        self._lock = threading.Lock()
        self._pipe = pipe
        if not faulthandler.is_enabled():
            faulthandler.enable(pipe)

    def begin(self, work: str) -> None:
        with self._lock:
            self._work.setdefault(threading.get_ident(), []).append(work)
            self.send(self._now())

    def done(self) -> None:
        with self._lock:
            thread = threading.get_ident()
            self._work[thread].pop()
            if not self._work[thread]:
                del self._work[thread]
            self.send(self._now())

    def _now(self) -> dict[str, str]:
        """What every thread does, by the number that the fault handler gives threads."""
        return {str(thread): stack[-1] for thread, stack in self._work.items()}

    def send(self, work: dict[str, str] | None) -> None:
        with contextlib.suppress(OSError):  # without a reader, work goes on
            self._pipe.write(f"{MARK}{json.dumps(work)}\n".encode())
            self._pipe.flush()


class _Watcher(_Reader):
    """A process that only reads, started when it is first needed."""

    def __init__(self, run: Run) -> None:
        import subprocess  # late: every command imports this module

        from yolodeploy.system import child_environment, python_command

        command = python_command(_WATCHER, json.dumps(run._asdict()))
        self._process = subprocess.Popen(command, env=child_environment(), stdin=subprocess.PIPE)
        super().__init__(cast("IO[bytes]", self._process.stdin))
        atexit.register(self.end)

    def end(self) -> None:
        faulthandler.disable()
        self.send(None)  # a fork of this process may keep the pipe open
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()


_run: Run | None = None
_reader: _Reader | None = None


def watch(run: Run) -> None:
    """Name the command under way; before that, nothing is watched."""
    global _run  # noqa: PLW0603 - there is one process
    _run = run


def report_to(pipe: IO[bytes]) -> None:
    """From now on, whoever reads this pipe is told what this process does."""
    global _reader  # noqa: PLW0603
    _reader = _Reader(pipe)


@contextlib.contextmanager
def doing(work: str) -> Iterator[None]:
    """If the process crashes in this block, the report names `work`."""
    global _reader  # noqa: PLW0603
    if _reader is None and _run is None:
        yield
        return
    _reader = reader = _reader or _Watcher(cast("Run", _run))
    reader.begin(work)
    try:
        yield
    finally:
        reader.done()
