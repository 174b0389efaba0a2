"""Who is using which object now, so that `cache prune` takes nothing away from a running build.

    <root>/users/<random>     ids of the objects that one process uses; locked while it lives
    <root>/users.lock         held for a moment while a lease is written, or an object goes

A process names an object before it looks for it. Whoever removes an object holds the same lock, reads
the leases, and moves the object away in one step: either the lease is seen, or the object is already gone when
the process looks. A lock ends with its process, however that ends, and so does the lease.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_BUSY = 10.0  # seconds; the lock is held for far less


class Leases:
    """The leases of a store, and this process's own."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "users"
        self._gate = FileLock(root / "users.lock")
        self._lock: FileLock | None = None
        self._file: Path | None = None
        self._wanted: set[str] = set()
        self._held: set[str] = set()
        self._process = os.getpid()

    def __del__(self) -> None:
        self.end()

    def hold(self, ids: Iterable[str]) -> None:
        """Name objects that this process is about to use.

        In a store that cannot be written there is no lease: whoever prunes that must know who reads it.
        What finds the disk full is tried again with the next. Raises Timeout if the gate stays shut.
        """
        self._wanted |= set(ids)
        if new := self._wanted - self._held:
            try:
                with self.gate():
                    self._append(new)
                self._held |= new
            except Timeout:
                raise
            except OSError:
                return

    def _append(self, ids: Iterable[str]) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                self._file = Path(file.name)
            self._lock = FileLock(self._file.with_suffix(".lock"))
            self._lock.acquire(timeout=0)
        with self._file.open("a", encoding="ascii") as file:
            file.write("".join(f"\n{id_}" for id_ in ids))  # the line before may have been cut off

    def end(self) -> None:
        """Give up this process's lease."""
        lock, file = self._lock, self._file
        self._lock = self._file = None
        if lock and file and os.getpid() == self._process:  # not in a fork of it
            _remove(file)
            lock.release()

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        """Hold off everyone else who writes a lease or removes an object."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._gate.acquire(timeout=_BUSY):
            yield

    def used(self) -> set[str]:
        """Ids that other living processes use; leases of dead ones are removed. The gate must be held."""
        found: set[str] = set()
        for file in self._folder.glob("tmp*"):
            if file.suffix == ".lock" or file == self._file:
                continue
            try:
                with FileLock(file.with_suffix(".lock"), timeout=0):
                    _remove(file)
            except Timeout:
                with contextlib.suppress(FileNotFoundError):  # it has just ended
                    found |= set(file.read_text(encoding="ascii").split())
        return found


def _remove(file: Path) -> None:
    for path in (file, file.with_suffix(".lock")):
        path.unlink(missing_ok=True)
