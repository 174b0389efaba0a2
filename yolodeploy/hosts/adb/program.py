"""A plugin's program on a device, and the jobs that it does there.

A job is a folder on the device: a file that says what to do, and a script that puts what the device keeps beside it and
starts the program. What comes back is believed if it is whole and bears the job's id.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from yolodeploy.backend import Native, NativeJob, NativeResults, Portable
from yolodeploy.errors import HostProblem
from yolodeploy.hosts.adb.client import Adb, quoted
from yolodeploy.hosts.adb.failures import known
from yolodeploy.system import quotable

RESULT_BYTES, JOB_SECONDS = 1 << 30, 900.0
_UNPINNED = "cannot run on the cores"  # says a runner that may not run there
_AROUND = 1 << 20  # bytes of results besides outputs
_DONE = (
    0,
    1,
)  # exit codes with which a program has written results, or the reason why there are none
_KILLED = 128 + 9
_ELF_MACHINES = {40: "arm", 62: "x86_64", 183: "aarch64"}  # e_machine of the ELF specification


class Runnable(Native, Portable, Protocol):
    """A plugin whose artifacts run where there is no Python."""


@dataclass(frozen=True)
class Program:
    """The program on the device, which keeps it by its digest."""

    adb: Adb
    digest: str

    def run(
        self,
        job: NativeJob,
        images: Sequence[bytes],
        outputs: int | None = None,
        seconds: float = JOB_SECONDS,
    ) -> NativeResults:
        """Do a job whose outputs have so many bytes, if that is known; HostProblem if it gives no results, or results of another job."""
        most = RESULT_BYTES if outputs is None else min(outputs + _AROUND, RESULT_BYTES)
        name = f"job-{secrets.token_hex(8)}"
        there = f"{self.adb.folder}/{name}"
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / name
            folder.mkdir()
            (folder / "run.sh").write_text(self._script(job, images, folder), encoding="utf-8")
            self.adb.push(folder, self.adb.folder)
        try:
            said, code = self.adb.run(f"cd {there} && sh run.sh", seconds)
            if code not in _DONE:
                raise self.adb.problem(_stopped(self.adb, said, code))
            data = self.adb.fetch(f"cat {there}/{job.results} 2>/dev/null; true", most)
        finally:
            with contextlib.suppress(HostProblem):  # it may be gone, which was said already
                self.adb.shell(f"rm -rf {there}")
        try:
            return job.read(data)
        except ValueError as error:
            raise self.adb.problem(self._unread(error, data, said)) from None

    def _unread(self, error: ValueError, data: bytes, said: str) -> str:
        """Why there are no results."""
        reason = known(str(error) if data else said, self.adb.folder)
        if reason is not None:
            return reason
        why = quotable(error, 500) if data else f"its program wrote no results ({_last(said)})"
        if _UNPINNED in why:
            return f"{why}. Name others as `cores` in hosts.toml."
        return f"{why}; nothing of it is used. Run again."

    def _script(self, job: NativeJob, images: Sequence[bytes], folder: Path) -> str:
        """Puts what the device keeps beside the job, and starts the program."""
        large = {name: file for name, file in job.files.items() if isinstance(file, Path)}
        kept = dict(zip(large, self.adb.keep(list(large.values())), strict=True))
        for name, content in job.files.items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
        pixels = [f"../kept/{digest}" for digest in self.adb.keep(images)]
        lines = ["set -e"]
        lines += [f"ln -s {quoted([f'../kept/{digest}', name])}" for name, digest in kept.items()]
        lines += [f"cat {quoted(pixels)} > {quoted([job.images])}"]
        lines += [f"exec ../kept/{self.digest} {quoted(job.arguments)}"]
        return "\n".join([*lines, ""])


def _stopped(adb: Adb, said: str, code: int) -> str:
    """Why a program ended without results."""
    if code == _KILLED:
        return "its program was killed while it worked; perhaps the memory does not suffice. Close apps there, and run again."
    if code > _KILLED - 9:
        return f"its program was ended by signal {code - 128}. Run again, and report it if it happens again."
    return adb.why(said)


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return quotable(lines[-1], 300) if lines else "and said nothing"


def machine_of(file: Path) -> str | None:
    """The machine that an ELF program is for, as `uname -m` calls it; None if it is not a program."""
    try:
        with file.open("rb") as stream:
            head = stream.read(20)
    except OSError:
        return None
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return _ELF_MACHINES.get(number, f"machine {number}")


def runs(machine: str, abis: str) -> bool:
    """Whether a device with these ABIs (`ro.product.cpu.abilist`) runs programs for a machine."""
    names = {"aarch64": "arm64-v8a", "x86_64": "x86_64", "arm": "armeabi-v7a"}
    return names.get(machine) in abis.split(",")
