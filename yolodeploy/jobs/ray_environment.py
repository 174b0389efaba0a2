"""What a Ray inherits from the process that starts it or connects to it, and what that process keeps to itself."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.jobs.job import Fault, Job
from yolodeploy.system import Console, child_environment, python_command

_SHORT = 40  # characters of a folder in which Ray can make sockets
_KNOCK, _MISSES = 3.0, 3  # seconds; times
_STOPS = signal.SIGINT, signal.SIGTERM
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_memory_monitor_refresh_ms": "0",  # a job that runs out of memory must end, not run again and again
    "RAY_raylet_start_wait_time_s": "180",  # for a machine that is busy
    "GRPC_VERBOSITY": "NONE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

_RAISED = re.compile(r"[\w.]+Error: ")  # how the last line of a trace begins
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@contextlib.contextmanager
def inherited_by_ray(*, own: bool) -> Iterator[None]:
    """In the block, environment and current folder are those that Ray's processes are to get.

    They inherit both. The current folder may hold a stranger's modules, and Ray puts it on the import path. A Ray of our `own`
    gets a token, or it would write one into the home folder.
    """
    before, folder = dict(os.environ), Path.cwd()
    changed = {**child_environment(), **_QUIET}
    if own:
        changed["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        _set_environment(changed)
        os.chdir(tempfile.gettempdir())
        yield
    finally:
        os.chdir(folder)
        _set_environment(before)


def _set_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


@contextlib.contextmanager
def kept_signals() -> Iterator[None]:
    """Keep this process's way of handling signals, which Ray changes."""
    before = [(number, signal.getsignal(number)) for number in _STOPS]
    try:
        yield
    finally:
        _handle(before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """In the block, Ctrl-C and `kill` do nothing: it ends what must not be left running."""
    with kept_signals():
        _handle((number, signal.SIG_IGN) for number in _STOPS)
        yield


def _handle(handlers: Iterable[tuple[signal.Signals, Any]]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers:
            signal.signal(number, handler)


@contextlib.contextmanager
def silent_ray(console: Console) -> Iterator[None]:
    """In the block, what Ray's threads print to standard output is a detail: the result of the command goes there."""
    before = sys.stdout
    sys.stdout = _Printed(before, console)
    try:
        yield
    finally:
        sys.stdout = before


class _Printed:
    """A stream as it was, but for Ray's threads."""

    def __init__(self, stream: TextIO, console: Console) -> None:
        self._stream, self._console = stream, console

    def write(self, text: str) -> int:
        """Write a text; a detail, if it is one of Ray's."""
        if not threading.current_thread().name.startswith("ray"):
            return self._stream.write(text)
        for line in _COLOUR.sub("", text).splitlines():
            if line.strip() and not line.startswith(" "):  # indented lines are quoted from logs
                self._console.detail(line)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def swept(*paths: Path) -> Iterator[None]:
    """Remove files and folders at the end of the block, even if this process is killed in it: a second process waits for that."""
    command = python_command("yolodeploy.system.sweeper", *map(str, paths))
    with subprocess.Popen(
        command, env=child_environment(), stdin=subprocess.PIPE, start_new_session=True
    ):
        yield


class Pulse:
    """Checks whether the head of a Ray, at an address, still answers. Ray ends a process that has not reached it for a minute."""

    def __init__(self, address: str) -> None:
        self._address, self._missed = address, 0

    @classmethod
    def of(cls, ray: Any) -> Self:
        """The pulse of a Ray. Ray's client knows no address, and notices by itself that the connection is lost."""
        return cls(
            "" if ray.util.client.ray.is_connected() else ray.get_runtime_context().gcs_address
        )

    def feel(self) -> bool:
        """Whether somebody answers; raises ConnectionError if nobody did the last times, either."""
        if not self._address:
            return True
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _KNOCK).close()
            self._missed = 0
        except OSError:
            self._missed += 1
            if self._missed == _MISSES:
                raise ConnectionError from None
        return not self._missed


def short_folder() -> str | None:
    """A folder for temporary files in which Ray can make sockets, whose paths must be short; None: the usual one."""
    return None if len(tempfile.gettempdir()) < _SHORT or os.name != "posix" else os.sep + "tmp"


def first_reason(error: BaseException) -> str:
    """What went wrong first, in one line. The text of an error of Ray may be the whole trace of another."""
    while error.__cause__ is not None:
        error = error.__cause__
    last = [line for line in str(error).splitlines() if _RAISED.match(line)][-1:]
    text = _RAISED.sub("", last[0]) if last else str(error)
    return " ".join(text.split())[:300].rstrip(".") or type(error).__name__


def fault_of_ray(job: Job, error: Exception) -> Fault:
    """What to say of a job that no worker brought to its end."""
    cause = getattr(error, "cause", None) or error
    reason = " ".join(str(cause).split())[:300]
    text = f"{job.title}: Ray could not bring the job to its end: {type(cause).__name__}: {reason}"
    return Fault(EnvironmentProblem.__name__, text, EnvironmentProblem.exit_code)


def unmet(jobs: Iterable[tuple[str, Mapping[str, Any]]], nodes: Iterable[Mapping[str, Any]]) -> str:
    """A warning about the first job that asks for more than any machine of Ray has; empty if there is none. Jobs are titles and what they ask for."""
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    for title, asked in jobs:
        least = {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], "memory": asked["memory"]}
        if not any(all(m.get(k, 0) >= n for k, n in least.items()) for m in machines):
            gpu = " and a GPU" if asked["num_gpus"] else ""
            return (
                f"{title} waits for {asked['num_cpus']} CPU, {asked['memory'] / 1e9:.1f} GB{gpu}: no machine of this Ray has "
                "as much to give. Add one, or end this with Ctrl-C."
            )
    return ""
