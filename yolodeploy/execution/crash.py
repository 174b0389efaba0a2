"""Puts a crash of native code into words, from what a process said until it ended."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping

from yolodeploy.execution.activity import MARK, Run
from yolodeploy.execution.bug_report import log_sentence, write_log

_KILLED = "Killed"
_SIGNALS = {  # as the fault handler names them: Modules/faulthandler.c of CPython
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Bus error": signal.SIGBUS,
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
    _KILLED: getattr(signal, "SIGKILL", signal.SIGTERM),
}
_THREAD = re.compile(r"Current thread 0x([0-9a-f]+)")
_MOST_LINES = 10_000  # of a trace


class Crash:
    """Collects the lines of a process: what it does now, and the trace of the fault handler."""

    def __init__(self) -> None:
        self.work: Mapping[str, str] | None = {}
        self._trace: list[str] = []

    def take(self, line: str) -> None:
        """Take a line. `work` is None once the process has said that it ends."""
        if line.startswith(MARK):
            self.work = json.loads(line[1:])
        elif len(self._trace) < _MOST_LINES:
            self._trace.append(line)

    @property
    def trace(self) -> str:
        """What the fault handler wrote."""
        return "".join(self._trace)


def describe_crash(crash: Crash, run: Run) -> tuple[str, int]:
    """The message about a process that ended at work, and the exit code; a trace is written to a log."""
    trace = crash.trace
    name = next((name for name in _SIGNALS if name in trace), _KILLED)
    return _message(run, _crashed(crash.work or {}, trace), name, trace), 128 + _SIGNALS[name]


def _crashed(work: Mapping[str, str], trace: str) -> str:
    """What the thread did that crashed; of a killed process, what all threads did."""
    found = _THREAD.search(trace)
    thread = str(int(found[1], 16)) if found else ""
    return work.get(thread) or " or ".join(work.values())


def _message(run: Run, work: str, name: str, trace: str) -> str:
    if name == _KILLED:
        return (
            f"{work}: the process was killed. Finished steps are kept. If nobody killed it, the system ran "
            "out of memory: use fewer images, a smaller batch or a smaller imgsz."
        )
    return (
        f"{work}: native code of a tool crashed ({name}). Finished steps are kept. "
        f"{log_sentence(write_log(trace, run))}"
    )
