"""A worker on a machine that ssh reaches: which Python it runs in, and the only folder that it writes to."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from yolodeploy.hosts.luggage import BOOT, Luggage
from yolodeploy.hosts.settings import FOLDER, HostSettings
from yolodeploy.hosts.ssh.connection import Connection
from yolodeploy.hosts.ssh.failures import NO_PYTHON, of_end, of_worker
from yolodeploy.hosts.worker_host import WorkerHost
from yolodeploy.system import quotable

_ADDRESS = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9_.+-]*@)?[A-Za-z0-9:_][A-Za-z0-9:_.-]*(%[A-Za-z0-9]+)?"
)
_PATH = re.compile(r"(~/|/)[^\0\n\r]+")
_BOOT = f"import sys;sys.path=[p for p in sys.path if p];import base64;exec(base64.b64decode('{base64.b64encode(BOOT.encode()).decode()}'))"


def _plain_address(value: str) -> str:
    if len(value) > 255 or not _ADDRESS.fullmatch(value):
        raise ValueError(
            f"`address: {quotable(value)}` must be user@host, host, or a name of your ssh configuration, of letters, "
            "digits, `.`, `-`, `_` and `:`. Everything else belongs into ~/.ssh/config"
        )
    if port := re.fullmatch(r"([^:]+):(\d+)", value):
        raise ValueError(
            f'`address: {value}` cannot have a port. Write: address = "{port[1]}", port = {port[2]}'
        )
    return value


def _plain_path(value: str) -> str:
    if len(value) > 1024 or not _PATH.fullmatch(value):
        raise ValueError(f"`{quotable(value)}` must be a path on the host that begins with / or ~/")
    return value


_RemotePath = Annotated[str, AfterValidator(_plain_path)]


class Settings(HostSettings):
    """A host of the kind `ssh`."""

    PERSONAL: ClassVar[frozenset[str]] = frozenset({"python", "folder", "config", "kept_mb"})

    address: Annotated[str, AfterValidator(_plain_address)]
    """Where the host is: user@host, host, or a name of your ssh configuration."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """The port of its ssh server, if neither 22 nor what your ssh configuration says."""
    python: _RemotePath | None = None
    """Its Python; if left out that of `venv` in the folder, else python3."""
    folder: _RemotePath = FOLDER
    """The only folder there that is written to."""
    kept_mb: int = Field(default=4096, ge=64)
    """Megabytes of images and artifacts that the folder may keep; the oldest go first."""
    config: str | None = None
    """An ssh configuration file to use in place of yours."""


@dataclass(frozen=True)
class SshTransport:
    """Starts workers over one connection."""

    name: str
    settings: Settings
    connection: Connection

    def start(self, luggage: Luggage) -> subprocess.Popen[bytes]:
        """Start a worker; HostProblem if the host cannot be reached."""
        arguments = [self.settings.folder, luggage.digest, str(len(luggage.data))]
        return self.connection.run(f"sh -c {shlex.quote(self._script(arguments))}")

    def explain(self, code: int | None, messages: str) -> str | None:
        """Whether the connection or the worker ended, and why."""
        if (end := self.connection.ended()) is not None:
            return of_end(*end, self.connection.words)
        return of_worker(code, messages, self.connection.words)

    def install(self, requirements: Sequence[str]) -> str:
        """The command that installs distributions there, in a virtual environment in the worker's folder."""
        wanted, python = " ".join(map(shlex.quote, requirements)), self.settings.python
        if python is None:
            venv = f"{_home(self.settings.folder)}/venv"
            steps = f"python3 -m venv {venv} && {venv}/bin/python -m pip install {wanted}"
        else:
            steps = f"{_home(python)} -m pip install {wanted}"
        return f"{shlex.join(['ssh', *self.connection.words])} {shlex.quote(steps)}"

    def close(self) -> None:
        """Hang up."""
        self.connection.close()

    def _script(self, arguments: Sequence[str]) -> str:
        """POSIX shell: choose a Python and become it."""
        words = " ".join(map(shlex.quote, arguments))
        chosen = self.settings.python
        if chosen is None:
            venv = f"{_home(self.settings.folder)}/venv/bin/python"
            choice = f'p={venv}; [ -x "$p" ] || p=python3'
        else:
            choice = f"p={_home(chosen)}"
        missing = f"echo {shlex.quote(NO_PYTHON)} >&2; exit 127"
        return f'{choice}; command -v "$p" >/dev/null 2>&1 || {{ {missing}; }}; exec "$p" -c "{_BOOT}" {words}'


def _home(path: str) -> str:
    """A path as a word of a shell, which expands `~/`."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def make(name: str, settings: Settings) -> WorkerHost:
    """The host of that name; nothing is connected yet."""
    connection = Connection(name, settings.address, settings.port, settings.config)
    return WorkerHost(
        SshTransport(name, settings, connection),
        claims=settings.device or "",
        kept_bytes=settings.kept_mb * 1_000_000,
        options=settings.options,
    )
