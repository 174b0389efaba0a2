"""Print messages, results and progress: a progress bar on a terminal, plain lines elsewhere.

Results go to standard output, everything else to standard error. If the reader of a pipe has gone, the
command carries on, ends with the same exit code, and drops its output; so it does with whatever standard
error cannot take. Only a result that cannot be written for another reason, such as a full disk, is an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system.bars import new_bars, shows_bars
from yolodeploy.system.json_files import shown_json
from yolodeploy.system.pace import Pace, clock, progress_text

# Control codes of a terminal, other line ends, and marks that turn the direction of text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

WIDTH = 80  # columns
_SOON, _LATE = 5.0, 60.0  # seconds between two lines of one task where there is no terminal
_OFTEN = 0.1  # of the time that a task has taken passes between two lines
_LONG = 5.0  # seconds after which the end of a task is worth a line


class Report(Protocol):
    """How far a piece of work is."""

    def __call__(self, done: float, text: str = "") -> None:
        """Report the share that is done, in 0..1, and what is being done ("12/300 images")."""

    def note(self, text: str) -> None:
        """Say something that stays: an epoch's loss and score. A terminal, whose bar says it, shows it with -v."""


class Console:
    """Prints messages by level (-1 quiet, 0 normal, 1 verbose) and the progress of long work.

    Bars that are `transient` go when their task has ended.
    """

    transient = False

    def __init__(self, level: int = 0) -> None:
        self.level = level
        self._warned = set[str]()

    def result(self, text: str) -> None:
        """Print what the user asked for; raises EnvironmentProblem if it cannot be written."""
        self._result(_printable(text).rstrip("\n") + "\n")

    def finish(self) -> None:
        """Flush standard output, which others may have printed to."""
        self._result("")

    def _result(self, text: str) -> None:
        error = _write(sys.stdout, text)
        if error and not isinstance(error, BrokenPipeError):
            raise EnvironmentProblem(f"standard output cannot be written: {error.strerror}")

    def info(self, text: str) -> None:
        """Print what happens; not with -q."""
        if self.level >= 0:
            self._line(text)

    def detail(self, text: str) -> None:
        """Print a detail; only with -v."""
        if self.level >= 1:
            self._line(text)

    def warn(self, text: str) -> None:
        """Print a warning, once, even with -q."""
        if text not in self._warned:
            self._warned.add(text)
            self._line(f"warning: {text}")

    def error(self, text: str) -> None:
        """Print what went wrong."""
        self._line(f"error: {text}")

    def failure(self, text: str, value: object | None) -> None:
        """Print what went wrong, and `value` as JSON unless it is None; never raises."""
        self.error(text)
        if value is not None:
            _write(sys.stdout, _printable(shown_json(value)) + "\n")

    @contextlib.contextmanager
    def task(self, name: str) -> Iterator[Report]:
        """Show the progress of one piece of work; yields the function that reports it."""
        if self.level < 0 or not shows_bars():
            report = _Lines(name, self.info)
            yield report
            report.end()
            return
        with new_bars(transient=self.transient) as bars:
            pace = Pace(time.monotonic())
            task = bars.add_task(name, total=1.0, text="", pace=pace)

            def show(done: float, text: str) -> None:
                pace.take(time.monotonic(), done, text)
                bars.update(task, completed=min(done, 0.999), text=text)

            yield _Bar(show, lambda text: self.detail(f"{name}: {text}"))
            bars.update(task, completed=1.0)

    def _line(self, text: str) -> None:
        _write(sys.stderr, _printable(text) + "\n")


def _write(stream: TextIO, text: str) -> OSError | None:
    """Write; on an error return it, and send the stream to the null device from then on."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # or Python complains about it when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _printable(text: str) -> str:
    """Escape control characters as JSON does: text from a recipe or a model must not control the terminal."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Bar:
    """Reports to a bar."""

    def __init__(self, show: Callable[[float, str], None], note: Callable[[str], None]) -> None:
        self._show, self.note = show, note

    def __call__(self, done: float, text: str = "") -> None:
        self._show(done, text)


class _Lines:
    """Reports as lines, the rarer the longer the work takes."""

    def __init__(self, name: str, print_: Callable[[str], None]) -> None:
        self._name, self._print = name, print_
        self._start = self._last = time.monotonic()
        self._pace = Pace(self._start)
        print_(f"{name} ...")

    def __call__(self, done: float, text: str = "") -> None:
        now = time.monotonic()
        self._pace.take(now, done, text)
        if now - self._last >= min(_LATE, max(_SOON, _OFTEN * (now - self._start))):
            self._last = now
            said = progress_text(self._pace, now, text)
            self._print(f"{self._name} {done:4.0%} {said}".rstrip())

    def note(self, text: str) -> None:
        self._last = time.monotonic()
        self._print(f"{self._name}: {text}")

    def end(self) -> None:
        if (seconds := time.monotonic() - self._start) >= _LONG:
            self._print(f"{self._name} done in {clock(seconds)}")
