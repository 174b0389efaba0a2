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
from typing import TYPE_CHECKING, TextIO

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system.json_files import shown_json

if TYPE_CHECKING:
    from rich.progress import Progress

# Control codes of a terminal, other line ends, and marks that turn the direction of text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
Report = Callable[[float, str], None]

WIDTH = 80  # columns
_PLAIN_INTERVAL = 5.0  # seconds between lines of one task where there is no terminal


class Console:
    """Prints messages by level (-1 quiet, 0 normal, 1 verbose) and the progress of long work."""

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
        if self.level >= 0 and sys.stderr.isatty():
            with _bar() as bar:
                task = bar.add_task(name, total=1.0, detail="")

                def report(done: float, text: str = "") -> None:
                    bar.update(task, completed=done, detail=text)

                yield report
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
