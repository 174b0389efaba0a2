"""What runs in a worker of Ray: one job at a time, in a child process of the worker.

Ray calls `work` by its name and passes JSON text and bytes; nothing of ours is pickled. The child keeps Ray's libraries and settings away
from tools, and a crash of native code is the outcome of a job. Ray runs a job again only if
its worker is lost.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolodeploy.errors import YolodeployError
from yolodeploy.execution import Run
from yolodeploy.jobs.faults import fault_of
from yolodeploy.jobs.job import Job, Outcome, Work
from yolodeploy.jobs.local import LocalChild
from yolodeploy.jobs.messages import SendingConsole
from yolodeploy.jobs.parcels import pack_objects, unpack_objects
from yolodeploy.store import Store, default_root
from yolodeploy.system import Console, child_environment

_KILLED = 128 + signal.SIGKILL
_TRIES = 3  # of a job whose child is killed
Parcel = list[bytes]
_children: dict[str, LocalChild] = {}  # by the GPUs that it may use: there is one at a time


class Board:
    """Where workers say what they do; the process that shows it takes that away from time to time."""

    def __init__(self) -> None:
        self._said: list[tuple[str, list[Any]]] = []

    def say(self, job: str, message: list[Any]) -> None:
        """Take a message of a job."""
        self._said.append((job, message))

    def take(self) -> list[tuple[str, list[Any]]]:
        """Everything that was said since the last time."""
        said, self._said = self._said, []
        return said


def work(text: str, token: str, level: int, board: Any, *given: Any) -> tuple[str, Parcel]:
    """Do a job after others: `given` are their outcomes, then the objects that came with each.

    `token` names a file that a worker sees which works in the same store. Any other works in a store of its own machine, and
    sends home what it made there. Returns the outcome and these objects.
    """
    job = Job.parse(text)
    count = len(given) // 2
    for outcome in given[:count]:
        found = Outcome.parse(outcome)
        if not found.ok:
            return replace(found, id=job.id, seconds=0.0).text(), []
    shared = (Path(job.work.store) / token).is_file()
    try:
        if shared:
            return _do(job, level, board).text(), []
        return _do_elsewhere(job, level, board, given[count:])
    except YolodeployError as error:
        return Outcome(job.id, fault=fault_of(error)).text(), []


def _do_elsewhere(
    job: Job, level: int, board: Any, parcels: Sequence[Parcel]
) -> tuple[str, Parcel]:
    """Do a job in this machine's store."""
    store = Store(default_root(), Console(-1).warn)
    for parcel in parcels:
        unpack_objects(store, parcel)
    outcome = _do(replace(job, work=replace(job.work, store=str(store.root))), level, board)
    return outcome.text(), pack_objects(store, outcome.used)


def _do(job: Job, level: int, board: Any) -> Outcome:
    if not Path(job.work.recipe).exists():
        return Outcome(job.id, other=f"{socket.gethostname()} does not see {job.work.recipe}")
    child = _child_for(job.work)
    child.console = SendingConsole(level, lambda message: _say(board, job.id, message))
    try:
        for _ in range(_TRIES):
            outcome = child.perform(job)
            if not outcome.fault or outcome.fault.exit_code != _KILLED:
                break
    except BaseException:  # Ctrl-C where the command runs
        child.close(interrupted=True)
        raise
    if outcome.other:
        return replace(outcome, other=f"{socket.gethostname()} {outcome.other}")
    return outcome


def _say(board: Any, job: str, message: list[Any]) -> None:
    board.say.remote(job, message)


def _child_for(work: Work) -> LocalChild:
    """The child of this worker; another one if Ray gave the worker other GPUs."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    for other in _children.keys() - {gpus}:
        _children.pop(other).close()
    if gpus not in _children:
        run = Run(["yolodeploy", "(a worker of Ray)"], [work.recipe], work.store, json=False)
        folder = work.folder if Path(work.folder).is_dir() else None
        _children[gpus] = LocalChild(Console(-1), run, _environment(), folder)
    return _children[gpus]


def _environment() -> dict[str, str]:
    """This worker's environment without what Ray adds for itself: its token, and its limit of threads."""
    kept = {k: v for k, v in child_environment().items() if not k.startswith("RAY_")}
    if not _set_before_ray("OMP_NUM_THREADS"):
        kept.pop("OMP_NUM_THREADS", None)
    return kept


def _set_before_ray(name: str) -> bool:
    """Whether a variable was set by whoever started Ray; its workers set some by themselves."""
    try:
        raylet = Path("/proc", os.environ["RAY_RAYLET_PID"], "environ").read_bytes()
    except (OSError, KeyError):
        return False
    return any(entry.startswith(f"{name}=".encode()) for entry in raylet.split(b"\0"))
