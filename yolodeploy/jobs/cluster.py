"""Ray as an executor: a job is a task of Ray, the jobs that it needs are its arguments, and the scheduler is Ray's.

    --on ray                    a Ray of this command's own on this machine, with a worker for each processor
    --on auto, --on host:port   a cluster that runs already, from one of its machines
    --on ray://host:port        the same from elsewhere, through Ray's client

What a task returns is the outcome of its job as JSON, and objects of the store for machines that do not see its folder.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from yolodeploy.errors import EnvironmentProblem, StepFailed, StoreProblem
from yolodeploy.execution import Run
from yolodeploy.jobs.executor import OWN
from yolodeploy.jobs.job import Fault, Job, Outcome, What, Work
from yolodeploy.jobs.local import LocalChild
from yolodeploy.jobs.parcels import pack_objects, unpack_objects
from yolodeploy.jobs.progress import Progress
from yolodeploy.jobs.ray_environment import (
    Pulse,
    fault_of_ray,
    first_reason,
    inherited_by_ray,
    kept_signals,
    short_folder,
    silent_ray,
    swept,
    uninterrupted,
    unmet,
)
from yolodeploy.jobs.ray_worker import Board, work
from yolodeploy.store import Store, explained
from yolodeploy.system import Console, descendants, end_processes, missing, threads

_RETRIES = 20  # of a job whose worker was lost
_POLL, _PATIENCE = 0.2, 5.0  # seconds
_OBJECTS = 100 << 20  # bytes that Ray keeps for this command: outcomes, which are short
_MEMORY = 3 << 29  # bytes that a job is taken to need
_THREADS = {What.COMPARE: 4, What.SOURCE: 4, What.STAGE: 4, What.STEP: 2, What.FLOAT: 2}
_GRACE = 10.0  # seconds in which jobs end after Ctrl-C


class RayCluster:
    """An executor: jobs run in the workers of a Ray, which is started when it is first needed.

    Raises EnvironmentProblem if Ray is not installed or cannot be reached.
    """

    beside = True

    def __init__(self, where: str, console: Console, run: Run, store: Store) -> None:
        if problem := missing("ray", "ray"):
            raise EnvironmentProblem(f"--on {where}: {problem}.")
        self._where, self._console, self._run, self._store = where, console, run, store
        self._here = LocalChild(console, run)
        self._token = f"cluster-{secrets.token_hex(16)}"
        self._ray: Any = None
        self._lost: dict[str, Fault] = {}  # by the ids of jobs that Ray gave up
        self._pulse = Pulse("")
        self._gone = ""  # what became of Ray, if that was not this command's doing
        self._before: set[int] = set()
        self._open = contextlib.ExitStack()  # what goes when Ray goes
        self._running: dict[Any, tuple[Job, Any]] = {}  # by the outcomes that are waited for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with uninterrupted():
            try:
                self._here.close(interrupted=error[0] is not None)
            finally:
                self._stop()

    def plan(self, work: Work) -> None:
        """As in `Executor`; this machine must know the models of its recipes, too."""
        self._here.plan(work)

    def run(
        self,
        jobs: Mapping[str, Job],
        done: Callable[[Job, Outcome], None],
        wanted: Callable[[Job], bool],
    ) -> None:
        """As in `Executor`. Jobs for which no worker was fit are done here, in a child process."""
        if not jobs:
            return
        self._here.close()
        self._start()
        left = dict(jobs)
        with Progress(self._console, jobs.values()) as progress:
            for job, outcome in self._outcomes(jobs, progress):
                if not outcome.other:
                    del left[job.id]
                    done(job, outcome)
        if left:
            why = self._gone or "no worker was fit for them"
            self._console.info(f"{len(left)} of {len(jobs)} jobs are done here: {why}")
            self._here.run(left, done, wanted)

    def ask(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        """The outcomes of jobs that make nothing, by id; raises EnvironmentProblem if Ray ends before they do."""
        self._here.close()
        self._start()
        unique = {job.id: job for job in jobs}
        with Progress(self._console, unique.values()) as progress:
            found = {job.id: outcome for job, outcome in self._outcomes(unique, progress)}
        if self._gone:
            raise EnvironmentProblem(f"--on {self._where}: {self._gone}. Run again.")
        return found

    def _outcomes(
        self, jobs: Mapping[str, Job], progress: Progress
    ) -> Iterator[tuple[Job, Outcome]]:
        """Hand all jobs to Ray, and yield each with its outcome as it ends; none any more when Ray is gone.

        Those that want a machine alone come last, since no other needs them: Ray keeps processors idle while such a job waits.
        """
        from ray.exceptions import LocalRayletDiedError

        if self._gone:
            return
        ray = self._ray
        results: dict[str, tuple[Any, Any] | None] = {}
        try:
            board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
            task = ray.remote(work)  # once: each time Ray sends the function to its workers again
            for alone in (False, True):
                for job in jobs.values():
                    if job.alone == alone:
                        results[job.id] = self._hand_over(job, task, board, results)
                yield from self._ended(board, progress)
        except (LocalRayletDiedError, ConnectionError):
            self._gone = "Ray has ended, or cannot be reached any more"
            self._running.clear()
            self._stop()  # or it ends this process, and its workers go on

    def _hand_over(
        self, job: Job, task: Any, board: Any, results: dict[str, tuple[Any, Any] | None]
    ) -> tuple[Any, Any]:
        """Give a job to Ray with the results that it needs; workers say what they do on the board. Returns its results to be."""
        for id_ in job.needs:
            if id_ not in results:
                results[id_] = self._sent(id_)
        given = [pair for pair in map(results.get, job.needs) if pair]
        arguments = [*(outcome for outcome, _ in given), *(objects for _, objects in given)]
        outcome, objects = task.options(**self._resources(job)).remote(
            job.text(), self._token, self._console.level, board, *arguments
        )
        self._running[outcome] = job, objects
        return outcome, objects

    def _ended(self, board: Any, progress: Progress) -> Iterator[tuple[Job, Outcome]]:
        """Each job that Ray was given, as it ends."""
        ray, looked, examined = self._ray, 0.0, time.monotonic()
        while self._running:
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=_POLL)
            if ready:  # and perhaps others
                waiting = list(self._running)
                ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            if time.monotonic() - looked > _POLL:
                looked = time.monotonic()
                progress.take(self._said(board))
            if time.monotonic() - examined > _PATIENCE:
                examined = time.monotonic()
                self._examine()
            for reference in ready:
                job, objects = self._running.pop(reference)
                outcome = self._arrived(job, reference, objects)
                progress.done(job, outcome)
                yield job, outcome

    def _examine(self) -> None:
        """Warn of a job that waits in vain; raises ConnectionError if Ray is gone."""
        if self._pulse.feel():  # or Ray does not answer, either
            jobs = [(job.title, self._resources(job)) for job, _ in self._running.values()]
            if lack := unmet(jobs, self._ray.nodes()):
                self._console.warn(f"--on {self._where}: {lack}")

    def _said(self, board: Any) -> list[tuple[str, list[Any]]]:
        """What workers said since the last time; nothing if the board is lost, which costs no result."""
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            said: list[tuple[str, list[Any]]] = self._ray.get(
                board.take.remote(), timeout=_PATIENCE
            )
            return said
        return []

    def _sent(self, id_: str) -> tuple[Any, Any] | None:
        """What a job needs that is in this store already, for workers that do not see it."""
        if not self._elsewhere or not self._store.peek(id_):
            return None
        ray = self._ray
        return ray.put(Outcome(id_).text()), ray.put(pack_objects(self._store, [id_]))

    def _arrived(self, job: Job, outcome: Any, objects: Any) -> Outcome:
        """The outcome of a job that has ended; what another machine made is put into the store."""
        from ray.exceptions import LocalRayletDiedError, RayError

        try:
            found = Outcome.parse(self._ray.get(outcome), job.id)
            unpack_objects(self._store, self._ray.get(objects))
        except RayError as error:
            if isinstance(error, LocalRayletDiedError):
                raise
            with contextlib.suppress(RayError):  # or Ray prints what nobody asked for
                self._ray.get(objects)
            cause = next((self._lost[id_] for id_ in job.needs if id_ in self._lost), None)
            self._lost[job.id] = fault = cause or fault_of_ray(job, error)
            return Outcome(job.id, fault=fault)
        except (ValueError, StoreProblem) as error:
            text = f"{job.title}: a worker sent something else than a result: {error}"
            return Outcome(job.id, fault=Fault(StepFailed.__name__, text, StepFailed.exit_code))
        return found

    def _resources(self, job: Job) -> dict[str, Any]:
        """What a task asks of Ray: a timing that decides takes a whole machine, others leave room for a neighbour."""
        cpus = self._cpus if job.alone else min(_THREADS.get(job.what, 1), max(1, self._cpus // 2))
        return {
            "num_returns": 2,
            "num_cpus": cpus,
            "num_gpus": int(job.gpu and (self._elsewhere or self._gpus)),
            "memory": min(_MEMORY, self._memory),
            "max_retries": _RETRIES,
            "name": job.title,
        }

    def _start(self) -> None:
        """Start a Ray, or connect to one."""
        if self._ray is not None or self._gone:
            return
        logging.getLogger("ray").setLevel(logging.ERROR)
        ray: Any = importlib.import_module("ray")
        options = {"log_to_driver": False, "logging_level": logging.ERROR, **self._prepare()}
        self._before = descendants(os.getpid())
        self._ray = ray  # from now on there may be something to end
        try:
            with inherited_by_ray(own=self._where == OWN), kept_signals():
                ray.init(**options)
        except Exception as error:
            text = f"--on {self._where}: Ray cannot be reached: {first_reason(error)}."
            raise EnvironmentProblem(text) from error
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        with_cpus = [node for node in nodes if node.get("CPU")]
        if not with_cpus:
            text = f"--on {self._where}: no machine of this Ray has a processor to give."
            raise EnvironmentProblem(text)
        self._cpus = int(max(node["CPU"] for node in with_cpus))
        self._memory = int(max(node.get("memory", _MEMORY) for node in with_cpus))
        self._gpus = any(node.get("GPU") for node in with_cpus)
        self._pulse = Pulse.of(ray)
        self._elsewhere = self._where != OWN

    def _prepare(self) -> dict[str, Any]:
        """Make what workers look for in the store, and the folder of a Ray of our own; returns options for Ray."""
        token = self._store.root / self._token
        with explained(self._store.root):
            self._store.root.mkdir(parents=True, exist_ok=True)
            token.touch()
        self._open.enter_context(silent_ray(self._console))
        if self._where != OWN:
            self._open.enter_context(swept(token))
            return {"address": self._where}
        folder = Path(tempfile.mkdtemp(prefix="yolodeploy-", dir=short_folder()))
        self._open.enter_context(swept(token, folder))
        return {
            "num_cpus": threads(),
            "include_dashboard": False,
            "object_store_memory": _OBJECTS,
            "_temp_dir": str(folder),
        }

    def _stop(self) -> None:
        """End what still runs, then a Ray of our own."""
        with self._open:
            ray, self._ray = self._ray, None
            if ray is None:
                return
            if running := list(self._running):
                with contextlib.suppress(Exception):
                    for reference in running:
                        ray.cancel(reference, force=False)
                    ray.wait(running, num_returns=len(running), timeout=_GRACE)
            processes = descendants(os.getpid()) - self._before
            ray.shutdown()
            if self._where == OWN:
                end_processes(processes, _GRACE)
