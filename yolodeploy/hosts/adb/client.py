"""The adb client: commands on a device, and files to and from it.

`adb shell` ends with 0 when the cable comes off, so nothing is believed but a mark with a number of its own at the end of what was printed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO, cast

from yolodeploy.errors import HostProblem
from yolodeploy.hosts.adb.failures import GONE, INSTALL, explained
from yolodeploy.hosts.session import Tail
from yolodeploy.hosts.watchdog import Watchdog

_SMALL = 1 << 20  # bytes that a command may print
_SECONDS = 60.0  # for a command
_RATE = 200_000  # bytes per second that the slowest cable carries
# Removes what was left by jobs that were cut off, and what was sent long ago.
_TIDY = """mkdir -p FOLDER/kept && cd FOLDER || exit 1
find . -maxdepth 1 -name 'job-*' -mtime +0 -exec rm -rf {} +
find kept -type f -mtime +13 -exec rm -f {} +"""
_AT_ONCE = 50  # files in one command, whose length old devices limit to 4 KiB


@dataclass
class Adb:
    """A device; `folder` is the only one there that is written to. HostProblem, with the remedy, for whatever fails."""

    name: str
    program: str
    serial: str
    folder: str
    _known: set[str] = field(default_factory=set)  # digests of what it keeps

    def start(self) -> None:
        """Start adb's server, which would otherwise keep the pipes of the first command open; tidy the folder up."""
        words = [self.program, "start-server"]
        null = subprocess.DEVNULL
        try:
            subprocess.run(
                words, check=False, timeout=_SECONDS, stdin=null, stdout=null, stderr=null
            )
        except OSError:
            raise self._unstarted() from None
        except subprocess.TimeoutExpired:
            raise self.problem(self.why("cannot connect to daemon")) from None
        self.shell(_TIDY.replace("FOLDER", self.folder))

    def problem(self, why: str) -> HostProblem:
        """What is wrong with the device, as an exception."""
        return HostProblem(f"host `{self.name}`: {why}")

    def _unstarted(self) -> HostProblem:
        if self.program == "adb":
            return self.problem(INSTALL)
        return self.problem(f"{self.program} cannot be started. Correct `adb` in hosts.toml.")

    def why(self, said: str) -> str:
        """Why something failed that printed this, with the remedy."""
        return explained(said, self.serial, self.folder)

    def run(self, script: str, seconds: float = _SECONDS) -> tuple[str, int]:
        """Run a script of a POSIX shell; returns what it printed, and its exit code."""
        mark = f"yolodeploy-{secrets.token_hex(8)}"
        whole = f"( {script}\n) 2>&1; code=$?; echo; echo {mark} $code"
        data = self._run(["shell", "-T", whole], seconds, _SMALL)
        said = data.decode(errors="replace").replace("\r\n", "\n")
        printed, found, code = said.rpartition(f"\n{mark} ")
        if not found or not re.fullmatch(r"\d{1,3}\s*", code, re.ASCII):
            raise self.problem(GONE)
        return printed, int(code)

    def shell(self, script: str, seconds: float = _SECONDS) -> str:
        """Run a script; returns what it printed. HostProblem if it fails."""
        printed, code = self.run(script, seconds)
        if code:
            raise self.problem(self.why(printed))
        return printed

    def fetch(self, script: str, most: int, seconds: float = _SECONDS) -> bytes:
        """The bytes that a script prints, at most so many; whoever asks must see whether they are whole."""
        return self._run(["exec-out", script], seconds + most / _RATE, most)

    def push(self, folder: Path, to: str) -> None:
        """Copy a folder into another one of the device."""
        size = sum(file.stat().st_size for file in folder.iterdir())
        self._run(["push", str(folder), to], _SECONDS + size / _RATE, _SMALL)

    def keep(self, files: Iterable[bytes | Path]) -> list[str]:
        """Have the device keep files by their digests; each is sent once. Returns the digests."""
        given = [(sha256(_bytes(file)).hexdigest(), file) for file in files]
        digests, wanted = [digest for digest, _ in given], dict(given)
        missing = [digest for digest in wanted if digest not in self._known]
        self._known |= self._there(missing)
        absent = {digest: wanted[digest] for digest in missing if digest not in self._known}
        for part in _parts(list(absent)):
            self._send({digest: absent[digest] for digest in part})
        return digests

    def _there(self, digests: Sequence[str]) -> set[str]:
        """The digests whose files are there and whole. These files count as just used, so tidying keeps them."""
        found: set[str] = set()
        for part in _parts(digests):
            names = " ".join(part)
            said = self.shell(
                f"cd {self.folder}/kept && {{ touch -c {names}; sha256sum {names} || true; }}"
            )
            pairs = (line.split() for line in said.splitlines())
            found |= {pair[0] for pair in pairs if len(pair) == 2 and pair[0] == pair[1]}
        return found & set(digests)

    def _send(self, files: Mapping[str, bytes | Path]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "kept"
            kept.mkdir()
            for digest, file in files.items():
                (kept / digest).write_bytes(_bytes(file))
            self.push(kept, self.folder)
        self._known |= self._there(list(files))
        if not set(files) <= self._known:
            raise self.problem(
                "files did not arrive there whole. Run again, with another cable if it happens again."
            )

    def _run(self, words: Sequence[str], seconds: float, most: int) -> bytes:
        """What a command of the client prints to stdout."""
        device = ["-s", self.serial] if self.serial else []
        try:
            process = subprocess.Popen(
                [self.program, *device, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError:
            raise self._unstarted() from None
        with _watched(process) as (tail, dog), dog.patient(seconds):
            data = cast("IO[bytes]", process.stdout).read(most + 1)
            if len(data) > most:
                process.kill()
                raise self.problem(
                    f"it sent more than {most} bytes, so nothing that it said is used. Run again."
                )
            code = process.wait()
            if dog.late:
                raise self.problem(
                    f"it did not answer within {dog.late:.0f} seconds. Unlock it, or connect it again, and run again."
                )
            if code:
                said = f"{data[-4096:].decode(errors='replace')}\n{tail.text()}"
                raise self.problem(self.why(said))
            return data


@contextlib.contextmanager
def _watched(process: subprocess.Popen[bytes]) -> Iterator[tuple[Tail, Watchdog]]:
    tail, dog = Tail(process.stderr), Watchdog(process)
    try:
        yield tail, dog
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        dog.close()
        cast("IO[bytes]", process.stdout).close()
        tail.close()


def _bytes(file: bytes | Path) -> bytes:
    return file.read_bytes() if isinstance(file, Path) else file


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def quoted(words: Iterable[str | os.PathLike[str]]) -> str:
    """Words for a shell."""
    return shlex.join(map(str, words))
