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

SAY, BEGIN, REPORT, END, DONE = "say", "begin", "report", "end", "done"
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
        number, last = next(self._numbers), 0.0
        unsent: list[Any] = []

        def report(done: float, text: str = "") -> None:
            nonlocal last
            unsent[:] = [REPORT, number, done, text]
            if time.monotonic() - last >= _INTERVAL:
                last = time.monotonic()
                self._send(unsent[:])
                unsent.clear()

        self._send([BEGIN, number, name])
        try:
            yield report
        finally:
            if unsent:
                self._send(unsent)
            self._send([END, number])


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
        elif word == END:
            del self._tasks[rest[0]]
            self._open.pop(rest[0]).close()
        else:
            raise ValueError(f"an unknown message: {str(word)[:40]}")

    def end_tasks(self) -> None:
        """Close what a process that has ended left open."""
        for stack in self._open.values():
            stack.close()
        self._open, self._tasks = {}, {}


class Sender:
    """Writes messages to a pipe, one line each, from any thread."""

    def __init__(self, write: Callable[[bytes], object], mark: str) -> None:
        self._write, self._mark, self._lock = write, mark, threading.Lock()

    def __call__(self, message: list[Any]) -> None:
        """Send a message."""
        line = f"{self._mark}{json.dumps(message)}\n".encode()
        with self._lock:
            self._write(line)
