"""What the user sees while work is under way: a progress bar on a terminal, plain lines elsewhere.

Results go to standard output, everything else to standard error. A reader that has gone changes nothing
of what a command does and ends with: what it would have read is dropped. So is whatever standard error
cannot take. Only a result that no one can have, because the disk is full, is a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from yolodeploy.errors import EnvironmentProblem

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# What steers a terminal: its commands, other ends of lines, and what turns the direction of text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
Report = Callable[[float, str], None]

WIDTH = 80  # columns that every text fits into

_PLAIN_INTERVAL = 5.0  # seconds between lines of one task where there is no terminal


class Console:
    """Messages by level (-1 quiet, 0 normal, 1 verbose) and the progress of long work."""

    def __init__(self, level: int = 0) -> None:
        self.level = level

    def result(self, text: str) -> None:
        """Print what the user asked for."""
        self._result(_shown(text).rstrip("\n") + "\n")

    def finish(self) -> None:
        """Let go of what others than this class printed."""
        self._result("")

    def _result(self, text: str) -> None:
        fault = _put(sys.stdout, text)
        if fault and not isinstance(fault, BrokenPipeError):
            raise EnvironmentProblem(f"standard output cannot be written: {fault.strerror}")

    def info(self, text: str) -> None:
        """Say what happens; left out with -q."""
        if self.level >= 0:
            self._line(text)

    def detail(self, text: str) -> None:
        """Say more; only with -v."""
        if self.level >= 1:
            self._line(text)

    def warn(self, text: str) -> None:
        """Say what the user should know even with -q."""
        self._line(f"warning: {text}")

    def error(self, text: str) -> None:
        """Say what went wrong."""
        self._line(f"error: {text}")

    def failure(self, text: str, value: object | None) -> None:
        """Say what went wrong, and print it as data, if there are; no one may be there to read either."""
        self.error(text)
        if value is not None:
            _put(sys.stdout, _shown(_json(value)) + "\n")

    @contextlib.contextmanager
    def task(self, name: str) -> Iterator[Report]:
        """Show the progress of one piece of work; yields the function to report it with."""
        if self.level >= 0 and sys.stderr.isatty():
            with _bar() as progress:
                yield _bar_report(progress, progress.add_task(name, total=1.0, detail=""), name)
        else:
            yield self._plain(name)

    def _plain(self, name: str) -> Report:
        self.info(f"{name} ...")
        last = time.monotonic()

        def report(done: float, text: str = "") -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_INTERVAL:
                last = time.monotonic()
                self.info(f"{name} {done:4.0%} {text}".rstrip())

        return report

    def _line(self, text: str) -> None:
        _put(sys.stderr, _shown(text) + "\n")


def _put(stream: TextIO, text: str) -> OSError | None:
    """Write; what cannot be written leads nowhere from then on, and the reason is returned."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as fault:
        with contextlib.suppress(OSError):  # or Python complains of it when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return fault
    return None


def _shown(text: str) -> str:
    """The text without control characters: what a recipe or a model says must not steer a terminal."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)  # as JSON has it, too


def _bar() -> Progress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=RichConsole(stderr=True),
    )


def _bar_report(progress: Progress, task: TaskID, name: str) -> Report:
    def report(done: float, text: str = "") -> None:
        progress.update(task, completed=done, description=name, detail=text)

    return report


def answer(console: Console, options: argparse.Namespace, value: object, text: str) -> None:
    """Print a result: `value` with --json, else `text`."""
    console.result(_json(value) if options.json else text)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
