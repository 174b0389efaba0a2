"""One worker process on a host, and the questions that it is asked."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

from yolodeploy.errors import HostProblem
from yolodeploy.hosts.luggage import Luggage, disk_problem, explain_boot
from yolodeploy.hosts.watchdog import Watchdog
from yolodeploy.system import quotable, tree_files
from yolodeploy.worker.frames import MARK, Frame, FrameError, read_frame, write_frame

_GREETING = 1 << 16  # bytes that a login may print before the worker's first line
_TAIL = 1 << 14  # bytes of stderr that are kept for messages
_SMALL = 1 << 24  # bytes of an answer, unless more is expected
_MESSAGE = 500  # characters of what a host says that are shown
PATIENCE = {"start": 120.0, "open": 900.0, "predict": 900.0, "time": 3600.0}  # seconds
_OTHER = 120.0  # for the rest
_ERRNOS = 4096  # Linux has no greater error number
_RATE = 20_000  # bytes per second that the slowest connection carries


_Found = TypeVar("_Found")


class Transport(Protocol):
    """How a process is started on a host, and what its end means."""

    @property
    def name(self) -> str:
        """The name of the host."""

    def start(self, luggage: Luggage) -> subprocess.Popen[bytes]:
        """Start `python -c BOOT root digest size` there, with pipes for stdin, stdout and stderr."""

    def explain(self, code: int | None, messages: str) -> str | None:
        """Why the process ended, with the remedy, from its exit code and stderr; None if that says nothing."""

    def install(self, requirements: Sequence[str]) -> str:
        """The command, to be run here, that installs distributions there."""

    def close(self) -> None:
        """End what workers share, such as a connection."""


class Session:
    """A running worker; `close` ends it."""

    def __init__(self, transport: Transport, luggage: Luggage, kept: set[str]) -> None:
        self._transport, self._count, self._lock = transport, 0, threading.Lock()
        self.kept = kept  # digests of what the host has, as far as it said so
        self._process = transport.start(luggage)
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._tail, self._watchdog = Tail(self._process.stderr), Watchdog(self._process)
        try:
            with self._watchdog.patient(PATIENCE["start"] + len(luggage.data) / _RATE):
                self._start(luggage)
        except BaseException:
            self.close()
            raise

    def _start(self, luggage: Luggage) -> None:
        if self._line() == b"need":
            self._write(lambda stream: stream.write(luggage.data) and stream.flush())
        if self._line() != b"ready":
            raise self._ended("its worker did not start")

    def ask(
        self,
        do: str,
        about: Mapping[str, Any],
        blobs: Sequence[Any] = (),
        most: int = _SMALL,
        report: Callable[[float], None] | None = None,
    ) -> tuple[Any, list[bytes]]:
        """Ask for one thing; returns the result and its blobs, of at most so many bytes. HostProblem if that fails.

        `report` is told of the progress of long work.
        """
        sent = sum(memoryview(blob).nbytes for blob in blobs)
        patience = PATIENCE.get(do, _OTHER) + sent / _RATE
        with self._lock, self._watchdog.patient(patience):
            self._count += 1
            head = {**about, "id": self._count, "do": do}
            self._write(lambda stream: write_frame(stream, head, blobs))
            frame = self._answer(most, report)
        if "error" in frame.head:
            raise _refusal(self._transport.name, frame.head)
        if "result" not in frame.head:
            raise self._foreign("its answer has no result")
        return frame.head["result"], frame.blobs

    def _answer(self, most: int, report: Callable[[float], None] | None) -> Frame:
        """The answer of the last request; what comes before it is its progress."""
        while True:
            frame = self._read(most)
            if frame.head.get("id") != self._count:
                raise self._foreign("it answered another request")
            if "progress" not in frame.head:
                return frame
            done = frame.head["progress"]
            if not isinstance(done, int | float) or not 0 <= done <= 1 or frame.blobs:
                raise self._foreign("the progress of its work is no share")
            if report:
                report(done)

    def ask_again(self, ask: Callable[[], _Found]) -> _Found:
        """Do what sends files and asks; again with those that the host has lost meanwhile, each once."""
        lost = set[str]()
        while True:
            try:
                return ask()
            except Refused as refused:
                if refused.missing not in self.kept or refused.missing in lost:
                    raise
                lost.add(refused.missing)
                self.kept.discard(refused.missing)

    def unsent(self, blobs: Sequence[bytes]) -> tuple[list[str], dict[str, bytes]]:
        """The digests of blobs, and by digest those that the host does not keep yet."""
        digests = [sha256(blob).hexdigest() for blob in blobs]
        pairs = zip(digests, blobs, strict=True)
        return digests, {digest: blob for digest, blob in pairs if digest not in self.kept}

    def send(self, blobs: Sequence[bytes]) -> list[str]:
        """Send what the host does not keep yet; returns the digests."""
        digests, unsent = self.unsent(blobs)
        for digest, blob in unsent.items():
            self.ask("keep", {"digests": [digest]}, [blob])
            self.kept.add(digest)
        return digests

    def send_tree(self, path: Path) -> dict[str, str]:
        """Send a file, or the files of a folder; returns their digests by relative path."""
        single = {path.name: path} if path.is_file() else {}
        files = single or {name: path / name for name in tree_files(path)}
        digests = self.send([file.read_bytes() for file in files.values()])
        return dict(zip(files, digests, strict=True))

    @property
    def usable(self) -> bool:
        """Whether the worker still runs."""
        return self._process.poll() is None

    def hang_up(self) -> None:
        """Let the worker end, without waiting for that."""
        with contextlib.suppress(OSError):
            cast("IO[bytes]", self._stdin).close()

    def close(self) -> None:
        """End the worker."""
        for stream in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):
                cast("IO[bytes]", stream).close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watchdog.close()
        self._tail.close()

    def _line(self) -> bytes:
        """What follows the mark in the next line that has it; a login may have printed a terminal's title before it."""
        read = 0
        while read < _GREETING:
            line = cast("IO[bytes]", self._stdout).readline(_GREETING)
            if not line:
                raise self._ended(
                    "its worker ended before it began, and said nothing. Correct the Python that hosts.toml names."
                )
            read += len(line)
            _, mark, told = line.partition(MARK)
            if mark:
                return told.strip()
        raise self._foreign("it printed too much before the worker began")

    def _write(self, write: Callable[[IO[bytes]], object]) -> None:
        try:
            write(cast("IO[bytes]", self._stdin))
        except OSError:
            raise self._ended("the connection was cut") from None

    def _read(self, most: int) -> Frame:
        try:
            return read_frame(cast("IO[bytes]", self._stdout), most)
        except (EOFError, OSError):
            raise self._ended("the connection was cut") from None
        except FrameError as error:
            raise self._foreign(f"it sent {error}") from None

    def _ended(self, otherwise: str) -> HostProblem:
        """What to say when the process is gone."""
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = None
        said, late = self._tail.text(), self._watchdog.late
        why = (
            (late and f"it did not answer within {late:.0f} seconds. Run again, or restart it.")
            or explain_boot(said)
            or self._transport.explain(code, said)
            or _last(said)
            or otherwise
        )
        return HostProblem(f"host `{self._transport.name}`: {why}")

    def _foreign(self, what: str) -> HostProblem:
        self._process.kill()
        return HostProblem(
            f"host `{self._transport.name}`: {what}, so nothing that it said is used. Run again; "
            f"`yolodeploy hosts check {self._transport.name}` looks at the host."
        )


class Refused(HostProblem, exit_code=HostProblem.exit_code, kind=HostProblem.kind):
    """The worker answered that it could not do what it was asked; `missing` is the digest of a file that it does not have."""

    missing = ""


def _refusal(name: str, head: Mapping[str, Any]) -> Refused:
    said, kind, missing = quotable(head["error"], _MESSAGE), str(head.get("kind")), ""
    number = head.get("errno")
    if kind == "disk" and isinstance(number, int) and 0 < number < _ERRNOS:
        said = disk_problem(number)
    if kind == "missing":
        missing, said = said, "it has lost a file that was sent there. Run again."
    refused = Refused(f"host `{name}`: {said}")
    refused.missing = missing
    return refused


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return quotable(lines[-1], _MESSAGE) if lines else ""


class Tail:
    """The end of what a process writes to stderr, read by a thread so that it never blocks."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream, self._kept = stream, bytearray()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        stream = cast("IO[bytes]", self._stream)
        with contextlib.suppress(OSError, ValueError):
            while part := stream.read1(4096):  # type: ignore[attr-defined]
                self._kept += part
                del self._kept[:-_TAIL]

    def text(self) -> str:
        """What was written last."""
        self._thread.join(1)
        return self._kept.decode(errors="replace")

    def close(self) -> None:
        """Stop reading."""
        self._thread.join(1)
        with contextlib.suppress(OSError):
            cast("IO[bytes]", self._stream).close()
