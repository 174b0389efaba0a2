"""Which process is using which objects, so that `cache prune` removes nothing that a build needs.

    <root>/users/<random>     ids of the objects that one process uses; locked while it lives
    <root>/users.lock         held briefly while a lease is written or an object removed

A process writes an object's id into its lease before it looks for the object. Whoever removes an object holds
users.lock, reads the leases, and moves the object away in one step: either the lease is seen, or the object is
already gone when the process looks. A lock ends with its process, however that ends, and so does the lease.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_TIMEOUT = 10.0  # seconds; the lock is held for far less


class ObjectLeases:
    """The leases in a store, this process's own among them."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "users"
        self._users_lock = FileLock(root / "users.lock")
        self._lock: FileLock | None = None
        self._file: Path | None = None
        self._wanted: set[str] = set()
        self._written: set[str] = set()
        self._process = os.getpid()

    def __del__(self) -> None:
        self.release()

    def hold(self, ids: Iterable[str]) -> None:
        """Add objects that this process is about to use to its lease.

        A store that cannot be written gets no lease: whoever prunes it must know who reads it. If the disk
        is full, the next call tries again. Raises Timeout if users.lock stays locked.
        """
        self._wanted |= set(ids)
        if new := self._wanted - self._written:
            try:
                with self.locked():
                    self._append(new)
                self._written |= new
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

    def release(self) -> None:
        """Give up this process's lease."""
        lock, file = self._lock, self._file
        self._lock = self._file = None
        self._wanted, self._written = set(), set()
        if lock and file and os.getpid() == self._process:  # not in a fork of it
            _remove(file)
            lock.release()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing a lease or removing an object."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._users_lock.acquire(timeout=_TIMEOUT):
            yield

    def used_by_others(self) -> set[str]:
        """Collect the ids that other living processes use, and remove dead ones' leases. Needs `locked`."""
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
