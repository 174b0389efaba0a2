"""A worker in another Python of this machine, or behind a command that runs one, such as an emulator."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from yolodeploy.errors import HostProblem
from yolodeploy.hosts.luggage import BOOT, Luggage
from yolodeploy.hosts.settings import FOLDER, HostSettings
from yolodeploy.hosts.worker_host import WorkerHost
from yolodeploy.system import child_environment


@dataclass(frozen=True)
class ProcessTransport:
    """`command` starts a Python; `folder` is the only one that its worker writes to."""

    name: str
    command: Sequence[str]
    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, luggage: Luggage) -> subprocess.Popen[bytes]:
        """Start the worker."""
        kept = {k: v for k, v in child_environment(own_threading=True).items() if k != "PYTHONPATH"}
        words = [*self.command, "-c", BOOT, self.folder, luggage.digest, str(len(luggage.data))]
        try:
            return subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**kept, **self.environment},
            )
        except OSError as error:
            raise HostProblem(
                f"host `{self.name}`: {self.command[0]} cannot be started: {error.strerror}. Correct `command` in hosts.toml."
            ) from None

    def explain(self, code: int | None, messages: str) -> str | None:  # noqa: ARG002 - the last line says it
        """A signal that ended the process."""
        return f"its worker was ended by signal {-code}. Run again." if code and code < 0 else None

    def install(self, requirements: Sequence[str]) -> str:
        """With the pip of that Python."""
        return shlex.join([*self.command, "-m", "pip", "install", *requirements])

    def close(self) -> None:
        """Nothing is shared."""


def _words(value: object) -> object:
    if isinstance(value, list) and value and all(isinstance(word, str) and word for word in value):
        return tuple(value)
    raise ValueError('`command` must be a list of words, such as ["/usr/bin/python3"]')


class Settings(HostSettings):
    """A host of the kind `process`: another Python of this machine."""

    PERSONAL: ClassVar[frozenset[str]] = frozenset({"command", "folder"})

    command: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(strict=False)
    """The command that starts its Python, as a list of words."""
    folder: str = Field(default=FOLDER, min_length=1)
    """The only folder that its worker writes to."""


def make(name: str, settings: Settings) -> WorkerHost:
    """The host of that name; nothing runs yet."""
    transport = ProcessTransport(name, settings.command, settings.folder)
    return WorkerHost(transport, claims=settings.device or "", options=settings.options)
