"""The child process in which the command line makes and measures things.

It starts when it is first needed, and lives until the command ends, so tools are imported once. If native code ends it, that is an outcome
like any other, and the next job gets a new child. The process that started it imports no toolchain.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import IO, Any, Self, cast

from yolodeploy.errors import NativeFault, StepFailed
from yolodeploy.execution import MARK, Crash, Run, describe_crash
from yolodeploy.jobs.job import Fault, Job, Outcome, Work
from yolodeploy.jobs.messages import DONE, Replay
from yolodeploy.system import Console, child_environment, python_command

_GRACE = (
    8.0  # seconds in which a child ends after Ctrl-C: what is being measured gets to its next image
)
_REST = 0.5  # seconds in which the last messages of a child that has ended are read
_POLL = 0.2  # seconds
_LAST = object()


class LocalChild:
    """An executor: a child process that does jobs. Close it, or use it as a context manager: nothing is left running.

    The child has this process's environment and current folder, or those that are given. It ends after the last job of a run, unless it is `lasting`.
    """

    beside = False  # one job after the other

    def __init__(
        self,
        console: Console,
        run: Run,
        environment: dict[str, str] | None = None,
        folder: str | None = None,
        *,
        lasting: bool = False,
    ) -> None:
        self._lasting = lasting
        self._run, self._environment, self._folder = run, environment, folder
        self._replay = Replay(console)
        self._child: _Child | None = None
        self._ending: _Child | None = None

    @property
    def console(self) -> Console:
        """Where it prints what the child says."""
        return self._replay.console

    @console.setter
    def console(self, console: Console) -> None:
        self._replay.console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(interrupted=error[0] is not None)

    def plan(self, work: Work) -> None:
        """Plan a recipe, which keeps what it reads of weights and files in the store; says nothing of errors."""
        self._ask("plan", json.dumps(asdict(work)), "")

    def run(
        self,
        jobs: Mapping[str, Job],
        done: Callable[[Job, Outcome], None],
        wanted: Callable[[Job], bool],
    ) -> None:
        """Do jobs in their order; see `Executor`."""
        failed: dict[str, Outcome] = {}
        several = len({job.recipe for job in jobs.values()}) > 1
        for job in jobs.values():
            cause = next((failed[id_] for id_ in job.needs if id_ in failed), None)
            if cause is None and not wanted(job):
                continue
            prefix = f"{job.recipe}: " if several else ""
            outcome = replace(cause, id=job.id) if cause else self.perform(job, prefix)
            if not outcome.ok:
                failed[job.id] = outcome
            done(job, outcome)
        self._end_later()

    def perform(self, job: Job, prefix: str = "") -> Outcome:
        """Do a job; the names of tasks that it shows get the prefix."""
        answer = self._ask("job", job.text(), prefix)
        if isinstance(answer, Fault):
            return Outcome(job.id, fault=answer)
        return Outcome.parse(str(answer), job.id)

    def close(self, *, interrupted: bool = False) -> None:
        """End the child and whatever it started."""
        children = filter(None, (self._child, self._ending))
        self._child = self._ending = None
        self._replay.end_tasks()
        for child in children:
            child.end(interrupted=interrupted)

    def _end_later(self) -> None:
        """Let the child end by itself, while this process goes on; another job gets another child."""
        if self._child and not self._lasting:
            if self._ending:
                self._ending.end()
            self._child.finish()
            self._child, self._ending = None, self._child

    def _start(self) -> _Child:
        environment = self._environment or child_environment()
        return _Child(self.console.level, environment, self._folder)

    def _ask(self, kind: str, body: str, prefix: str) -> str | Fault | None:
        """The answer; a fault if the child ended instead."""
        self._child = child = self._child or self._start()
        crash = Crash()
        if child.send([kind, body]):
            for line in child.lines():
                message = _message(line, crash)
                if message and message[0] == DONE:
                    answer: str | None = message[1]
                    return answer
                if message:
                    self._replay.take(message, prefix)
        code = child.end()
        self._child = None
        self._replay.end_tasks()
        return _fault(code, crash, self._run)


def _message(line: str, crash: Crash) -> list[Any] | None:
    """A message of the child; None if the line says what it does, or is part of a trace."""
    if line.startswith(f"{MARK}["):
        message: list[Any] = json.loads(line[1:])
        return message
    crash.take(line)
    return None


def _fault(code: int, crash: Crash, run: Run) -> Fault:
    """What to say of a child that ended at work."""
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code < 0:
        message, _ = describe_crash(crash, run)
        return Fault(NativeFault.__name__, message, 128 - code)
    work = " or ".join((crash.work or {}).values()) or "a tool"
    text = f"{work} ended the process with exit code {code}. Report it to the author of the plugin."
    return Fault(StepFailed.__name__, text, StepFailed.exit_code)


class _Child:
    """The process, a thread that reads what it says, and one that waits for its end."""

    def __init__(self, level: int, environment: dict[str, str], folder: str | None) -> None:
        self._process = subprocess.Popen(
            python_command("yolodeploy.jobs.child", str(level)),
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which ends the child in good order
        )
        self._lines: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, daemon=True).start()

    def send(self, request: list[str]) -> bool:
        """Send a request; False if the child has ended."""
        pipe = cast("IO[bytes]", self._process.stdin)
        try:
            pipe.write(f"{json.dumps(request)}\n".encode())
            pipe.flush()
        except OSError:
            return False
        return True

    def lines(self) -> Iterator[str]:
        """What the child says, line by line, until it has ended."""
        while True:
            try:
                line = self._lines.get(timeout=_POLL)
            except queue.Empty:  # Ray cancels without a signal that would wake a longer wait
                continue
            if line is _LAST:
                return
            yield cast("str", line)

    def finish(self) -> None:
        """Say that there is nothing more to do."""
        with contextlib.suppress(OSError):
            cast("IO[bytes]", self._process.stdin).close()

    def end(self, *, interrupted: bool = False) -> int:
        """End the child: at once if it is idle, in good order if it is interrupted; returns its exit code."""
        if interrupted:
            self._signal(signal.SIGINT)
        else:
            self.finish()
        try:
            code = self._process.wait(_GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            code = self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started and left
        return code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for raw in cast("IO[bytes]", self._process.stdout):
                self._lines.put(raw.decode("utf-8", "replace"))

    def _wait(self) -> None:
        self._process.wait()
        self._reader.join(_REST)  # a fork of the child may keep the pipe open
        self._lines.put(_LAST)
