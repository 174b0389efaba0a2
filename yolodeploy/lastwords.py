"""What is said when native code, or the system, ends the process: a second process says it.

A segmentation fault gives Python no chance to speak. So while plugins are at work, a small process
that knows what is being done listens at a pipe, which closes with this process. Python's fault
handler writes its trace into the same pipe. If it closes while something was being done, the small
process writes the log and the message; the exit status stays that of the signal.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import IO, Any, cast

from yolodeploy import buglog
from yolodeploy.buglog import Run

_MARK = "\0"  # begins our lines; the fault handler's begin otherwise
_KILLED = "Killed"
_SIGNALS = {  # as the fault handler names them: Modules/faulthandler.c of CPython
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
    _KILLED: getattr(signal, "SIGKILL", signal.SIGTERM),
}
_SHOW_CURSOR = "\x1b[?25h"


class _Listener:
    """The process that listens, started when it is first needed."""

    def __init__(self, run: Run) -> None:
        import subprocess  # late: every command imports this module

        from yolodeploy.child import environment, python

        self._doing: list[str] = []
        command = python("yolodeploy.lastwords", json.dumps(run._asdict()))
        self._process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE)
        self._pipe = cast("IO[bytes]", self._process.stdin)
        atexit.register(self.end)
        if not faulthandler.is_enabled():
            faulthandler.enable(self._pipe, all_threads=False)

    def begin(self, what: str) -> None:
        self._doing.append(what)
        self._tell()

    def done(self) -> None:
        self._doing.pop()
        self._tell()

    def end(self) -> None:
        faulthandler.disable()
        with contextlib.suppress(OSError):  # said in words, for a fork of ours may hold the pipe
            self._pipe.write(f"{_MARK}null\n".encode())
            self._pipe.close()
        self._process.wait()

    def _tell(self) -> None:
        doing = self._doing[-1] if self._doing else ""
        with contextlib.suppress(OSError):  # without a listener all goes on, with less to say
            self._pipe.write(f"{_MARK}{json.dumps(doing)}\n".encode())
            self._pipe.flush()


_run: Run | None = None
_listener: _Listener | None = None


def of(run: Run) -> None:
    """Say which command is under way; without it no one listens."""
    global _run  # noqa: PLW0603 - there is one process, with one end
    _run = run


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Have it said, if the process ends in here, that it was doing `what`."""
    global _listener  # noqa: PLW0603
    if _run is None:
        yield
        return
    _listener = _listener or _Listener(_run)
    _listener.begin(what)
    try:
        yield
    finally:
        _listener.done()


def listen(run: Run, heard: IO[bytes]) -> None:
    """Wait for the end of the pipe, and say what is to be said if it came too early."""
    what, trace = "", []
    for raw in heard:
        line = raw.decode("utf-8", "replace")
        if line.startswith(_MARK):
            what = json.loads(line[1:])
            if what is None:
                return
        else:
            trace.append(line)
    if what:
        name = next((name for name in _SIGNALS if any(name in line for line in trace)), _KILLED)
        _say(run, _message(run, what, name, "".join(trace)), 128 + _SIGNALS[name])


def _message(run: Run, what: str, name: str, trace: str) -> str:
    if name == _KILLED:
        return (
            f"{what}: the process was killed meanwhile. What was finished before is kept. If nobody "
            "killed it, the system did for want of memory: use fewer images, a smaller batch or imgsz."
        )
    return (
        f"{what}: native code of a tool ended the process ({name}). What was finished before is kept. "
        f"{buglog.where(buglog.write(trace, run))}"
    )


def _say(run: Run, message: str, code: int) -> None:
    from yolodeploy.console import Console

    if os.isatty(2):
        sys.stderr.write(_SHOW_CURSOR)  # a progress bar may have hidden it
    fault = {"error": {"kind": "native fault", "exit_code": code, "message": message}}
    Console().failure(message, fault if run.json else None)


def main() -> int:
    """Listen at standard input on behalf of the run that the first argument describes."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # meant for the other process, which is heard out
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    raw: dict[str, Any] = json.loads(sys.argv[1])
    listen(Run(**raw), sys.stdin.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
