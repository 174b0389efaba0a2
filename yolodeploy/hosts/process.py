"""A worker in another Python of this machine, or behind a command that runs one, such as an emulator."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yolodeploy.errors import HostProblem
from yolodeploy.hosts.luggage import BOOT, Luggage
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
        return f"its worker was ended by signal {-code}" if code and code < 0 else None
