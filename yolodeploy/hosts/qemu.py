"""Hosts of the kind `qemu`: an arm64 runtime on this machine, under emulation. For its arithmetic, never for its speed.

QEMU's user mode runs single programs of another processor (https://www.qemu.org/docs/master/user/main.html). `bench/arm64_root.sh` makes
the folder with a Python and wheels that it runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from yolodeploy.errors import HostProblem
from yolodeploy.hosts.process import ProcessTransport
from yolodeploy.hosts.settings import FOLDER, HostSettings
from yolodeploy.hosts.worker_host import WorkerHost
from yolodeploy.system import quotable

if TYPE_CHECKING:
    import subprocess

    from yolodeploy.hosts.luggage import Luggage

_SCRIPT = "bench/arm64_root.sh"
_QEMU = ("qemu-aarch64-static", "qemu-aarch64")


def _processor(value: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9.-]{0,40}", value):
        raise ValueError(
            f"`cpu: {quotable(value)}` must be a processor as QEMU calls it, such as cortex-a76: `qemu-aarch64-static -cpu help` "
            "lists them"
        )
    return value


class Settings(HostSettings):
    """A host of the kind `qemu`: an arm64 Python under emulation."""

    PERSONAL: ClassVar[frozenset[str]] = frozenset({"root", "qemu", "folder"})

    root: str = Field(min_length=1)
    """The folder that `bench/arm64_root.sh` made: a file system of arm64 with Python, and wheels in `site`."""
    cpu: Annotated[str, AfterValidator(_processor)] = "cortex-a76"
    """The processor that is emulated, as QEMU calls it: `cortex-a76` has fp16 and dot products, `cortex-a72` neither."""
    qemu: str = ""
    """The program of QEMU's user mode, if it is not `qemu-aarch64-static` or `qemu-aarch64` on the PATH or below `root`."""
    folder: str = Field(default=FOLDER, min_length=1)
    """The only folder that its worker writes to."""


@dataclass(frozen=True)
class QemuTransport:
    """Starts workers below `settings.root` in QEMU."""

    name: str
    settings: Settings

    def start(self, luggage: Luggage) -> subprocess.Popen[bytes]:
        """Start the worker; HostProblem if there is nothing to start."""
        root = Path(self.settings.root).expanduser().absolute()
        command = [
            self._qemu(root),
            "-cpu",
            self.settings.cpu,
            "-L",
            str(root),
            str(_python(root, self.name)),
        ]
        # The worker would find the name of this machine's processor.
        given = {"PYTHONPATH": str(root / "site"), "YOLODEPLOY_EMULATED": self.settings.cpu}
        return ProcessTransport(self.name, command, self.settings.folder, given).start(luggage)

    def explain(self, code: int | None, messages: str) -> str | None:
        """A processor that QEMU does not know, or a signal that ended it."""
        if "unable to find CPU model" in messages:
            return f"QEMU knows no processor `{self.settings.cpu}`. `qemu-aarch64-static -cpu help` lists them; name one as `cpu` in hosts.toml."
        return ProcessTransport(self.name, (), "").explain(code, messages)

    def install(self, requirements: Sequence[str]) -> str:
        """With the script that made the folder."""
        return shlex.join([_SCRIPT, self.settings.root, *requirements])

    def close(self) -> None:
        """Nothing is shared."""

    def _qemu(self, root: Path) -> str:
        from shutil import which

        if self.settings.qemu:
            return self.settings.qemu
        below = [str(root / "qemu/usr/bin" / name) for name in _QEMU]
        found = next(filter(None, map(which, (*_QEMU, *below))), None)
        if found is None:
            raise HostProblem(
                f"host `{self.name}`: {_QEMU[0]} is not installed. Run: apt-get install qemu-user-static"
            )
        return found


def _python(root: Path, name: str) -> Path:
    found = sorted(
        file for file in root.glob("usr/bin/python3.*") if file.name[len("python3.") :].isdecimal()
    )
    if not found:
        raise HostProblem(
            f"host `{name}`: there is no Python below {root}. Run: {shlex.join([_SCRIPT, str(root)])}"
        )
    return max(found, key=lambda file: int(file.name[len("python3.") :]))


def make(name: str, settings: Settings) -> WorkerHost:
    """The host of that name; nothing runs yet."""
    untimed = f"{name} emulates its processor, so its speed is no device's"
    return WorkerHost(
        QemuTransport(name, settings),
        untimed=untimed,
        claims=settings.device or "",
        options=settings.options,
    )
