"""A host with a worker: artifacts are sent there once, opened, run and timed in processes of their own."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from yolodeploy.backend import Hardware, Portable, Remote, Runtime, Worker
from yolodeploy.errors import HostProblem, PlanRefused
from yolodeploy.hosts.answers import Machine, Opened, timing_of, typed
from yolodeploy.hosts.host import Survey, Timed
from yolodeploy.hosts.luggage import pack
from yolodeploy.hosts.remote_predictor import RemotePredictor
from yolodeploy.hosts.session import Session, Transport
from yolodeploy.system import installed, quotable
from yolodeploy.worker.turns import Timing

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Backend, Predictor, Target


KEPT_BYTES = 4_000_000_000  # of images and artifacts; the oldest go first


@dataclass(frozen=True)
class Model:
    """An artifact as a worker is told of it: `files` are digests by relative path."""

    remote: Remote
    files: Mapping[str, str]

    def plain(self, module: str) -> dict[str, Any]:
        """What the worker needs to open it."""
        return {"module": module, "files": dict(self.files), "options": dict(self.remote.options)}


class WorkerHost:
    """A host that `transport` reaches."""

    def __init__(
        self,
        transport: Transport,
        *,
        untimed: str = "",
        claims: str = "",
        kept_bytes: int = KEPT_BYTES,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.options = dict(options or {})
        self.name, self.untimed, self.claims = transport.name, untimed, claims
        self._transport, self._kept_bytes = transport, kept_bytes
        self._sessions: list[Session] = []
        self._machines: dict[str, Machine] = {}
        self._kept = set[str]()
        self._idle: list[tuple[str, Session]] = []

    @property
    def processors(self) -> int:
        """Those that its workers may use."""
        return next(iter(self._machines.values())).processors if self._machines else 1

    def hardware(self, backend: Backend) -> Hardware:
        """What the machine says of itself."""
        return _hardware(self.machine(portable(backend, self.name).WORKER))

    def conditions(self, backend: Backend) -> Mapping[str, Any]:
        """The machine, the versions of what runs artifacts of the backend there, and the worker's code."""
        worker = portable(backend, self.name).WORKER
        machine = self.machine(worker)
        names = {
            "system",
            "release",
            "arch",
            "cpu",
            "processors",
            "board",
            "python",
            "distributions",
        }
        told = {"options": self.options} if self.options else {}
        return {**machine.model_dump(include=names), "code": pack(worker.module).digest, **told}

    def machine(self, worker: Worker) -> Machine:
        """What the host says of itself and of what a plugin needs there, asked once."""
        if worker.module not in self._machines:
            self._idle.append((worker.module, self._session(worker)))
        return self._machines[worker.module]

    def survey(self, distributions: Sequence[str]) -> Survey:
        """What the machine says of itself and of these distributions, whether an artifact could run there or not."""
        session = self._started(None)
        try:
            result, _ = session.ask("hello", {"distributions": list(distributions)})
        finally:
            self._end(session)
        found: Machine = typed(Machine, result, self.name)
        return Survey(_hardware(found), found.python, found.distributions)

    def install(self, requirements: Sequence[str]) -> str:
        """The command that installs distributions there."""
        return self._transport.install(requirements)

    def open(self, backend: Backend, artifact: Artifact, target: Target, threads: int) -> Predictor:
        """Open an artifact in a worker that serves no other."""
        plugin = portable(backend, self.name)
        module, remote = plugin.WORKER.module, self._remote(plugin, artifact, target)
        session = self._idle_session(plugin.WORKER)

        def ask() -> Any:
            model = Model(remote, session.send_tree(artifact.path)).plain(module)
            return session.ask("open", {"model": model, "name": "model", "threads": threads})[0]

        opened: Opened = typed(Opened, session.ask_again(ask), self.name)
        about, timing = opened.runtime, remote.timing and not self.untimed
        note = "; ".join(filter(None, (about.note, remote.note)))
        place = about.name, about.version, about.device
        runtime = Runtime(*place, threads, note, timing, self.name)
        predictor = RemotePredictor(session, remote, runtime, opened.batch)
        weakref.finalize(predictor, self._idle.append, (module, session))
        return predictor

    def time(self, timed: Timed) -> Timing:
        """Time an artifact in a fresh worker."""
        session = self._session(portable(timed.backend, self.name).WORKER)
        try:
            result = session.ask_again(partial(self._time, session, timed))
        finally:
            self._end(session)
        asked = {"threads": timed.threads, "serving": timed.serving}
        return timing_of(result, self.name, others=list(timed.others), **asked)

    def _time(self, session: Session, timed: Timed) -> Any:
        plugin, tensor = portable(timed.backend, self.name), np.load(timed.tensor)
        told = {
            name: Model(
                self._remote(plugin, each, timed.target), session.send_tree(each.path)
            ).plain(plugin.WORKER.module)
            for name, each in {"": timed.artifact, **timed.others}.items()
        }
        about = {
            "model": told.pop(""),
            "others": told,
            "tensor": session.send([tensor.tobytes()])[0],
            "shape": tensor.shape[1:],
            "threads": timed.threads,
            "limits": {name: list(limits) for name, limits in timed.limits.items()},
            "serving": timed.serving,
            "reference": timed.reference,
            "brief": timed.brief,
        }
        return session.ask("time", about, report=timed.report)[0]

    def close(self) -> None:
        """End its workers."""
        for session in self._sessions:
            session.hang_up()
        self._transport.close()
        for session in list(self._sessions):
            self._end(session)

    def _remote(self, plugin: Portable, artifact: Artifact, target: Target) -> Remote:
        """How the host runs an artifact, with what hosts.toml says to the plugin; HostProblem if that takes no such thing."""
        remote, known = plugin.remote(artifact, target), plugin.WORKER.options
        if unknown := next((name for name in self.options if name not in known), None):
            allowed = f"`{'`, `'.join(known)}`" if known else "none"
            raise HostProblem(
                f"host `{self.name}`: hosts.toml has the option `{quotable(unknown)}`, and {plugin.WORKER.module} takes "
                f"{allowed}. Remove it."
            )
        more = {"host": self.options} if self.options else {}
        return replace(remote, options={**remote.options, **more})

    def _idle_session(self, worker: Worker) -> Session:
        """A worker whose model nobody uses any more, or a new one."""
        for pair in list(self._idle):
            module, session = pair
            if module == worker.module:
                self._idle.remove(pair)
                if session.usable:
                    return session
        return self._session(worker)

    def _session(self, worker: Worker) -> Session:
        """A new worker; HostProblem if the host lacks what it needs."""
        session = self._started(worker.module)
        about = {"distributions": list(worker.requires), "kept_bytes": self._kept_bytes}
        result, _ = session.ask("hello", about)
        machine: Machine = typed(Machine, result, self.name)
        self._machines[worker.module] = machine
        self._kept.update(machine.kept)
        if never := wrong_system(worker, machine.system):
            raise HostProblem(
                f"host `{self.name}`: it cannot run the artifact: {never}. Name another host, or measure here, without --on."
            )
        if wrong := wrong_versions(worker, machine.distributions):
            command = self._transport.install(requirements(worker))
            raise HostProblem(
                f"host `{self.name}`: it has other tools than this machine ({wrong}). Run: {command}"
            )
        return session

    def _started(self, module: str | None) -> Session:
        session = Session(self._transport, pack(module), self._kept)
        self._sessions.append(session)
        return session

    def _end(self, session: Session) -> None:
        self._sessions.remove(session)
        session.close()


def _hardware(machine: Machine) -> Hardware:
    return Hardware(
        machine.system,
        machine.release,
        machine.arch,
        machine.cpu,
        machine.processors,
        machine.board,
        tuple(machine.names),
        frozenset(machine.features),
        machine.emulated,
    )


def wrong_system(worker: Worker, system: str) -> str:
    """Why a runtime cannot be had on a host with this system, as the end of a sentence; empty if it can."""
    if not worker.systems or system in worker.systems:
        return ""
    return f"its runtime exists for {' and '.join(map(_called, worker.systems))} only, and this is {_called(system)}"


def _called(system: str) -> str:
    return "macOS" if system == "Darwin" else system


def wrong_versions(worker: Worker, theirs: Mapping[str, str | None]) -> str:
    """What a host lacks, or has in another version than this machine; empty if nothing."""
    ours = _pinned(worker)
    missing = [f"{name} is missing" for name in worker.requires if not theirs.get(name)]
    other = [
        f"{name} is {theirs[name]}, not {version}"
        for name, version in ours.items()
        if theirs.get(name) and theirs[name] != version
    ]
    return ", ".join([*missing, *other])


def requirements(worker: Worker) -> list[str]:
    """What has to be installed on a host, as pip takes it: in this machine's versions where they decide results."""
    ours = _pinned(worker)
    return [f"{name}=={ours[name]}" if name in ours else name for name in worker.requires]


def _pinned(worker: Worker) -> dict[str, str]:
    """The versions that this machine has of what decides results."""
    found = installed(*worker.pinned)
    return {name: version for name, version in found.items() if version != "missing"}


def portable(backend: Backend, host: str) -> Portable:
    """The plugin as one whose artifacts run elsewhere; PlanRefused if they do not."""
    if not isinstance(backend, Portable):
        raise PlanRefused(
            f"artifacts of {backend.NAME} cannot run on the host `{host}`: its plugin has no worker. Measure here, without --on."
        )
    return backend
