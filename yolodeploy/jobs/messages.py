"""What a process that does jobs says while it does them: messages of a console, as plain data.

A line of the pipe is the mark and JSON: a mapping of threads to what they do, or null (see `execution/activity.py`), or a list that begins
with one of the words below. Lines without the mark are a trace of Python's fault handler.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

from yolodeploy.system import Console, Report

SAY, BEGIN, REPORT, NOTE, END, DONE = "say", "begin", "report", "note", "end", "done"
_KINDS = ("info", "detail", "warn", "error")
_INTERVAL = 0.1  # seconds between two reports of one task


class SendingConsole(Console):
    """A console that hands on, as plain data, what is printed with it."""

    def __init__(self, level: int, send: Callable[[list[Any]], None]) -> None:
        super().__init__(level)
        self._send, self._numbers = send, count()

    def info(self, text: str) -> None:
        """As in `Console`."""
        self._say("info", text, 0)

    def detail(self, text: str) -> None:
        """As in `Console`."""
        self._say("detail", text, 1)

    def warn(self, text: str) -> None:
        """As in `Console`."""
        self._say("warn", text, -1)

    def error(self, text: str) -> None:
        """As in `Console`."""
        self._say("error", text, -1)

    def _say(self, kind: str, text: str, least: int) -> None:
        if self.level >= least:
            self._send([SAY, kind, text])

    @contextlib.contextmanager
    def task(self, name: str) -> Iterator[Report]:
        """As in `Console`."""
        report = _SentReport(next(self._numbers), self._send)
        self._send([BEGIN, report.number, name])
        ended = False
        try:
            yield report
            ended = True
        finally:
            report.flush()
            self._send([END, report.number, ended])


class _SentReport:
    """Sends reports, not too many of them."""

    def __init__(self, number: int, send: Callable[[list[Any]], None]) -> None:
        self.number, self._send = number, send
        self._unsent: list[Any] = []
        self._last = 0.0

    def __call__(self, done: float, text: str = "") -> None:
        self._unsent = [REPORT, self.number, done, text]
        if time.monotonic() - self._last >= _INTERVAL:
            self._last = time.monotonic()
            self.flush()

    def note(self, text: str) -> None:
        self.flush()
        self._send([NOTE, self.number, text])

    def flush(self) -> None:
        """Send what was held back."""
        if self._unsent:
            self._send(self._unsent)
        self._unsent = []


class Replay:
    """Prints the messages of another process."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._tasks: dict[int, Report] = {}
        self._open: dict[int, ExitStack] = {}

    def take(self, message: list[Any], prefix: str = "") -> None:
        """Print a message; the names of tasks get the prefix. Raises ValueError for anything else."""
        try:
            self._take(message[0], message[1:], prefix)
        except (TypeError, IndexError, KeyError) as error:
            raise ValueError(f"a message that makes no sense: {error}") from None

    def _take(self, word: object, rest: list[Any], prefix: str) -> None:
        if word == SAY and rest[0] in _KINDS:
            getattr(self.console, str(rest[0]))(str(rest[1]))
        elif word == BEGIN:
            self._open[rest[0]] = stack = ExitStack()
            self._tasks[rest[0]] = stack.enter_context(self.console.task(f"{prefix}{rest[1]}"))
        elif word == REPORT:
            self._tasks[rest[0]](float(rest[1]), str(rest[2]))
        elif word == NOTE:
            self._tasks[rest[0]].note(str(rest[1]))
        elif word == END:
            del self._tasks[rest[0]]
            _close(self._open.pop(rest[0]), ended=bool(rest[1]))
        else:
            raise ValueError(f"an unknown message: {str(word)[:40]}")

    def end_tasks(self) -> None:
        """Close what a process that has ended left open."""
        for stack in self._open.values():
            _close(stack, ended=False)
        self._open, self._tasks = {}, {}


class _Unfinished(Exception):
    """The work of a task did not end well."""


def _close(stack: ExitStack, *, ended: bool) -> None:
    """End a task as it ended in the other process."""
    if ended:
        stack.close()
        return
    with contextlib.suppress(_Unfinished), stack:
        raise _Unfinished


class Sender:
    """Writes messages to a pipe, one line each, from any thread."""

    def __init__(self, write: Callable[[bytes], object], mark: str) -> None:
        self._write, self._mark, self._lock = write, mark, threading.Lock()

    def __call__(self, message: list[Any]) -> None:
        """Send a message."""
        line = f"{self._mark}{json.dumps(message)}\n".encode()
        with self._lock:
            self._write(line)
