"""What does jobs: a child process, a cluster, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, Self

from yolodeploy.jobs.job import Job, Outcome, Work

OWN, RUNNING = "ray", "auto"


def is_cluster(where: str) -> bool:
    """Whether a name that --on gives is one of a Ray, not that of a host."""
    return where in (OWN, RUNNING) or where.startswith("ray://") or _is_address(where)


def _is_address(where: str) -> bool:
    host, _, port = where.rpartition(":")
    return bool(host) and port.isdecimal()


class Executor(Protocol):
    """Does jobs, so that the store has their results. A context manager: nothing is left running."""

    beside: bool  # whether jobs run beside each other

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def plan(self, work: Work) -> None:
        """Plan a recipe, which keeps what it reads of weights and files in the store; says nothing of errors."""

    def run(
        self,
        jobs: Mapping[str, Job],
        done: Callable[[Job, Outcome], None],
        wanted: Callable[[Job], bool],
    ) -> None:
        """Do jobs, each after those that it needs; `done` is called for every job that ended.

        A job that needs one that failed ends with the same fault. One that is not `wanted` any more may be left out.
        """


class Here:
    """Does nothing: what a recipe lacks is made when it is asked for, in this process."""

    beside = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def plan(self, work: Work) -> None:
        """As in `Executor`."""

    def run(
        self,
        jobs: Mapping[str, Job],
        done: Callable[[Job, Outcome], None],
        wanted: Callable[[Job], bool],
    ) -> None:
        """As in `Executor`."""
        for job in filter(wanted, jobs.values()):
            done(job, Outcome(job.id))


class Kept:
    """An executor that stays open from one use to the next, until its own block ends."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.beside = executor.beside
        self.plan, self.run = executor.plan, executor.run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the executor open: whoever made it closes it."""
