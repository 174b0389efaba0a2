"""A host of the kind `adb`: artifacts run in a plugin's own program on the device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import AfterValidator, BeforeValidator, Field

from yolodeploy.backend import Native, Portable, Runtime, load_registry
from yolodeploy.errors import EnvironmentProblem, HostProblem, PlanRefused
from yolodeploy.hosts.adb.client import Adb
from yolodeploy.hosts.adb.phone import Facts, facts
from yolodeploy.hosts.adb.predictor import AdbPredictor
from yolodeploy.hosts.adb.program import Program, Runnable, machine_of, runs
from yolodeploy.hosts.adb.timing import time_jobs
from yolodeploy.hosts.host import Survey
from yolodeploy.hosts.settings import HostSettings
from yolodeploy.system import installed, quotable

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Backend, Hardware, Predictor, Target
    from yolodeploy.hosts.host import Timed
    from yolodeploy.worker.turns import Timing

FOLDER = "/data/local/tmp/yolodeploy"
_PATH = "^/[A-Za-z0-9._/-]+$"
UNTRIED = (
    "over adb, which was tried against the adb daemon of Debian, not yet against a phone: SELinux, cores of several "
    "kinds and throttling may surprise"
)


def _listed(value: str) -> str:
    if not re.fullmatch("([!-,.-~][ -~]{0,99})?", value):
        raise ValueError(
            f"`serial: {quotable(value)}` must be a device as `adb devices` lists it: at most 100 characters of ASCII, the first "
            "neither `-` nor a space"
        )
    return value


def _list(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError("`cores` must be a list of numbers, such as [4, 5]")  # noqa: TRY004 - as pydantic wants it
    return value


class Settings(HostSettings):
    """A host of the kind `adb`: a phone or board without Python."""

    PERSONAL: ClassVar[frozenset[str]] = frozenset({"adb", "runner", "folder"})

    serial: Annotated[str, AfterValidator(_listed)] = ""
    """Which device, as `adb devices` lists it; needed where there are several."""
    runner: str = ""
    """The program that runs artifacts there, if not the one that its build script made."""
    cores: Annotated[tuple[int, ...], BeforeValidator(_list)] = Field(
        default=(), strict=False, max_length=64
    )
    """The cores that latencies are measured on; if left out those with the highest clocks."""
    adb: str = "adb"
    """The adb client."""
    folder: str = Field(default=FOLDER, pattern=_PATH)
    """The only folder there that is written to."""


class AdbHost:
    """A device that adb reaches."""

    untimed = ""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.claims, self._settings = name, settings.device or "", settings
        self._adb = Adb(name, settings.adb, settings.serial, settings.folder)
        self._runners: dict[str, Program] = {}

    @cached_property
    def _facts(self) -> Facts:
        self._adb.start()
        return facts(self._adb)

    @property
    def processors(self) -> int:
        """The cores of the device."""
        return self._facts.hardware.processors

    def hardware(self, backend: Backend) -> Hardware:  # noqa: ARG002 - the same for all
        """What the device says of itself."""
        return self._facts.hardware

    def conditions(self, backend: Backend) -> Mapping[str, Any]:
        """The device, the program that runs there, and the cores that are asked for."""
        hardware = self._facts.hardware
        return {
            "system": hardware.system,
            "release": hardware.release,
            "arch": hardware.arch,
            "cpu": hardware.cpu,
            "processors": hardware.processors,
            "board": hardware.board,
            "runner": sha256(self._file(backend).read_bytes()).hexdigest(),
            "cores": list(self._settings.cores),
        }

    def open(self, backend: Backend, artifact: Artifact, target: Target, threads: int) -> Predictor:
        """Open an artifact: it is pushed, and runs once."""
        plugin = self._plugin(backend)
        remote, shape = plugin.remote(artifact, target), backend.describe(artifact).inputs[0].shape
        predictor = AdbPredictor(
            plugin, remote, self._runner(backend), (artifact, target, threads), self.name
        )
        version = predictor.version(shape[-3:])
        self._require_version(plugin, version)
        hardware = self._facts.hardware
        device = f"{hardware.board} ({hardware.cpu})" if hardware.board else hardware.cpu
        note = "; ".join(filter(None, (remote.note, UNTRIED)))
        predictor.runtime = Runtime(
            backend.NAME, version, device, threads, note, remote.timing, self.name
        )
        return predictor

    def time(self, timed: Timed) -> Timing:
        """Time an artifact in a fresh process on the fastest cores."""
        plugin = self._plugin(timed.backend)
        cores = self._settings.cores or self._facts.fastest(timed.threads)
        return time_jobs(
            plugin, self._runner(timed.backend), timed, cores, self._facts.hardware.cpu
        )

    def survey(self, distributions: Sequence[str]) -> Survey:
        """The device, and for which plugins there is a program: they have the versions of this machine."""
        hardware, found = self._facts.hardware, dict[str, str | None]()
        for backend in load_registry().backends.values():
            if isinstance(backend, Native) and isinstance(backend, Portable):
                there = self._has_program(backend)
                pinned = installed(*backend.WORKER.requires)
                found.update({name: pinned[name] if there else None for name in pinned})
        known = {name: found.get(name) for name in distributions}
        return Survey(hardware, "", known)

    def install(self, requirements: Sequence[str]) -> str:
        """The command that builds the program of the plugin that has these requirements; "" if there is none."""
        wanted = [each.partition("==")[0] for each in requirements]
        for backend in load_registry().backends.values():
            if not (isinstance(backend, Native) and isinstance(backend, Portable)):
                continue
            if list(backend.WORKER.requires) == wanted:
                try:
                    self._file(backend)
                except HostProblem as problem:
                    return str(problem).rpartition(": ")[2]
        return ""

    def _has_program(self, backend: Backend) -> bool:
        try:
            return bool(self._file(backend))
        except HostProblem:
            return False

    def close(self) -> None:
        """Nothing runs on."""

    def _plugin(self, backend: Backend) -> Runnable:
        if not (isinstance(backend, Native) and isinstance(backend, Portable)):
            raise PlanRefused(
                f"artifacts of {backend.NAME} cannot run on the host `{self.name}`: its plugin has no program for machines "
                "without Python. Measure here, without --on."
            )
        return cast("Runnable", backend)

    def _runner(self, backend: Backend) -> Program:
        """The plugin's program, on the device."""
        if backend.NAME not in self._runners:
            file = self._file(backend)
            (digest,) = self._adb.keep([file])
            self._adb.shell(f"chmod 755 {self._adb.folder}/kept/{digest}")
            self._runners[backend.NAME] = Program(self._adb, digest)
        return self._runners[backend.NAME]

    def _file(self, backend: Backend) -> Path:
        machine = self._facts.machine
        if self._settings.runner:
            file = Path(self._settings.runner).expanduser()
        else:
            try:
                file = self._plugin(backend).find_native(machine)
            except EnvironmentProblem as error:
                raise self._adb.problem(str(error)) from None
        built = machine_of(file)
        if built is None:
            raise self._adb.problem(
                f"{file} is not a program. Correct `runner` in hosts.toml, or build it."
            )
        if built != machine or (self._facts.abis and not runs(built, self._facts.abis)):
            raise self._adb.problem(
                f"{file} is a program for {built}, and the device is {machine} ({self._facts.abis or 'Linux'}). Build it for that."
            )
        return file

    def _require_version(self, plugin: Runnable, version: str) -> None:
        for name, ours in installed(*plugin.WORKER.pinned).items():
            if ours != version:
                raise self._adb.problem(
                    f"its program has {name} {quotable(version)}, and this machine has {ours}. Build it again."
                )


def make(name: str, settings: Settings) -> AdbHost:
    """The host of that name; nothing is connected yet."""
    return AdbHost(name, settings)
