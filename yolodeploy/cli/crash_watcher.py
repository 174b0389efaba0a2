"""Reports native crashes from a watcher process; see `execution/activity.py`.

python -P -m yolodeploy.cli.crash_watcher RUN_AS_JSON < pipe
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO

from yolodeploy.execution import Crash, Run, describe_crash

_SHOW_CURSOR = "\x1b[?25h"


def listen(run: Run, pipe: IO[bytes]) -> None:
    """Read the pipe until it closes; if work was under way then, report the crash."""
    crash = Crash()
    for raw in pipe:
        crash.take(raw.decode("utf-8", "replace"))
        if crash.work is None:
            return
    if crash.work:
        _print(run, *describe_crash(crash, run))


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
