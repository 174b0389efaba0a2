"""Reports native crashes from a watcher process; see `execution/activity.py`.

python -P -m yolodeploy.cli.crash_watcher RUN_AS_JSON < pipe
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import IO

from yolodeploy.cli.bug_report import log_sentence, write_log
from yolodeploy.execution import MARK, Run

_KILLED = "Killed"
_SIGNALS = {  # as the fault handler names them: Modules/faulthandler.c of CPython
    "Segmentation fault": signal.SIGSEGV,
    "Aborted": signal.SIGABRT,
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
    _KILLED: getattr(signal, "SIGKILL", signal.SIGTERM),
}
_THREAD = re.compile(r"Current thread 0x([0-9a-f]+)")
_SHOW_CURSOR = "\x1b[?25h"


def listen(run: Run, pipe: IO[bytes]) -> None:
    """Read the pipe until it closes; if work was under way then, report the crash."""
    work, trace = dict[str, str](), []
    for raw in pipe:
        line = raw.decode("utf-8", "replace")
        if line.startswith(MARK):
            work = json.loads(line[1:])
            if work is None:
                return
        else:
            trace.append(line)
    if work:
        name = next((name for name in _SIGNALS if any(name in line for line in trace)), _KILLED)
        text = "".join(trace)
        _print(run, _message(run, _crashed(work, text), name, text), 128 + _SIGNALS[name])


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


def _print(run: Run, message: str, code: int) -> None:
    from yolodeploy.system import Console

    if os.isatty(2):
        sys.stderr.write(_SHOW_CURSOR)  # a progress bar may have hidden it
    error = {"error": {"kind": "native fault", "exit_code": code, "message": message}}
    Console().failure(message, error if run.json else None)


def main() -> int:
    """Watch the run that the first argument describes; its pipe is standard input."""
    # These are meant for the watched process, which is watched to its end.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    listen(Run(**json.loads(sys.argv[1])), sys.stdin.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
