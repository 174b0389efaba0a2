"""Does jobs in a process of its own, one after the other, for the process that started it.

    python -P -m yolodeploy.jobs.child LEVEL < requests > messages

A request is a line of JSON: `["plan", work]` or `["job", job]`; it is answered by `["done", outcome]`, or null for a plan. What tools print goes
to standard error. The process ends with its standard input, whatever it is doing then, and so do its children.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import IO

from yolodeploy.execution import MARK, report_to
from yolodeploy.jobs.job import Job, Work, parse_json
from yolodeploy.jobs.messages import DONE, Sender, SendingConsole
from yolodeploy.system import end_with_parent


def main() -> None:
    """Answer requests until there are no more."""
    parent, code = os.getppid(), 0
    # Registered first, so it comes last: tools have tidied up, and what they loaded need not be taken apart.
    atexit.register(lambda: os._exit(code))
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a background job ignores them, Ray's workers block them
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    end_with_parent(parent)
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # no tool's output gets among the messages
    report_to(pipe)
    try:
        _serve(pipe, int(sys.argv[1]))
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT


def _serve(pipe: IO[bytes], level: int) -> None:
    from yolodeploy.jobs.perform import Workplace

    send = Sender(pipe.write, MARK)
    workplace = Workplace(SendingConsole(level, send))
    for kind, body in _requests():
        if kind == "plan":
            with contextlib.suppress(Exception):  # whoever asked finds out for himself
                workplace.plan(parse_json(Work, body))
            send([DONE, None])
        else:
            send([DONE, workplace.perform(Job.parse(body)).text()])


def _requests() -> Iterator[tuple[str, str]]:
    """The requests, in order. Standard input is read in a thread, so that its end is noticed at work."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()

    def read() -> None:
        with open(0, "rb", buffering=0, closefd=False) as raw:
            for line in raw:
                waiting.put(line.decode())
        if busy.is_set():
            os.killpg(0, signal.SIGKILL)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := waiting.get()) is not None:
        busy.set()
        kind, body = json.loads(line)
        yield kind, body
        busy.clear()


if __name__ == "__main__":
    main()
