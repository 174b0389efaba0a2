"""The content-keyed store: the only thing that a build writes to, one finished folder at a time.

    <root>/objects/<id[:2]>/<id>/meta.json   the object's description, with the digest of data/
                                 data/       the files, read only
    <root>/tmp/<id>.<random>/                an object being made or removed; worthless after a kill
    <root>/resume/<id>/                      the progress of a long step, until it has a result
    <root>/locks/<id>.lock                   held while an object is made
    <root>/users/                            which process uses which objects (leases.py)

An object appears by one rename of a finished, synced folder, and disappears by one, so it is complete
or absent. Its digest is checked on every read; a damaged object is removed and made again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from yolodeploy.errors import StoreProblem
from yolodeploy.store.disk_errors import VARIABLE, explained
from yolodeploy.store.leases import ObjectLeases
from yolodeploy.store.objects import (
    Entry,
    Meta,
    NotStored,
    Stored,
    clear,
    damage,
    move_aside,
    read_meta,
    sync,
    write_object,
)
from yolodeploy.system import tree_bytes

DIGESTS = "digests.json"  # of input files: see `StatCache`
FACTS = "facts.json"  # of weights, by their digest
_ID = re.compile("[0-9a-f]{64}")
_DAMAGED = "is damaged"
_DATA = "data.json"


def default_root() -> Path:
    """The user's cache folder, or the one that YOLODEPLOY_CACHE names."""
    named = os.environ.get(VARIABLE)
    if not named:
        return Path(platformdirs.user_cache_dir("yolodeploy"))
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise StoreProblem(
            f"{VARIABLE}={named}: there is no such home folder. Name another folder."
        ) from None


class Store:
    """A store below `root`, which is created on the first write; `warn` is called with each warning."""

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root, self._warn = root.absolute(), warn
        self._leases = ObjectLeases(self.root)
        self._reads, self.used = False, set[str]()  # ids of objects that were found or made

    def peek(self, id_: str) -> bool:
        """Whether an object is there; its bytes are not read."""
        return os.path.isfile(self._home(id_) / "meta.json")  # noqa: PTH113 - False where forbidden

    def meta(self, id_: str) -> Meta | None:
        """The description of an object, or None if it is not there."""
        return read_meta(self._home(id_))

    def hold(self, ids: Iterable[str]) -> None:
        """Keep objects from being pruned while this process lives, whether they exist yet or not."""
        with explained(self.root):
            self._leases.hold(ids)

    def release(self) -> None:
        """Let others remove what this store holds."""
        self._leases.release()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """In this block nothing is made or removed: NotStored is raised for what is not there, damaged or not wanted."""
        self._reads = True
        try:
            yield
        finally:
            self._reads = False

    def find(self, id_: str, locked: str | None = None, given: str = "") -> Stored | None:
        """Find an object and verify it. One that is damaged or not wanted is removed, with a warning.

        `locked` is the digest that a lock names: a fetched object must have it. An object made here may
        differ, because the lock may come from another machine; but if `given` is set, the object must have
        been made from the artifact with that digest.
        """
        self.hold([id_])
        found = self._examine(id_, locked, given)
        if isinstance(found, Stored):
            self.used.add(id_)
            return found
        if not os.path.lexists(self._home(id_)):
            return None
        if self._reads:  # it stays, for it tells what else was made of it
            raise NotStored(id_)
        with explained(self.root), self._lock(id_):
            return self._find_or_remove(id_, locked, given)

    def obtain(self, entry: Entry, make: Callable[[Path], Path]) -> Stored:
        """Find an object, or make it with `make(work folder) -> result folder` inside the work folder.

        If several processes want an object at once, one makes it and the others wait.
        """
        found = self.find(entry.id, entry.locked)
        if found:
            return found
        if self._reads:
            raise NotStored(entry.id)
        self.used.add(entry.id)
        with explained(self.root), self._lock(entry.id):
            found = self._find_or_remove(entry.id, entry.locked, "")
            return found or self._make(entry, make)

    def remember(self, id_: str, kind: str, compute: Callable[[Path], Any]) -> tuple[Any, Path]:
        """Read plain data kept under an id, or compute it now. Returns the data and the object's folder.

        `compute(folder)` returns the data, and may write files of its own into the folder.
        """

        def make(work: Path) -> Path:
            text = json.dumps(compute(work), allow_nan=False, sort_keys=True, ensure_ascii=False)
            (work / _DATA).write_text(text, encoding="utf-8")
            return work

        stored = self.obtain(Entry(id_, "memo" if kind == "json" else "measure", kind), make)
        return json.loads((stored.path / _DATA).read_text(encoding="utf-8")), stored.path

    def discard(self, id_: str, reason: str) -> None:
        """Remove an object that is undamaged but no longer of use; `reason` completes the sentence.

        Raises StoreProblem if another process uses it.
        """
        with explained(self.root), self._lock(id_):
            self._discard(id_, reason)

    def entries(self) -> Iterator[tuple[Path, Meta | None]]:
        """List all objects: their folders and descriptions (None: unreadable)."""
        for home in sorted(self.root.glob("objects/??/*")):
            if _ID.fullmatch(home.name):  # anything else here is not ours
                yield home, read_meta(home)

    def remove(self, home: Path) -> bool:
        """Remove an object; False if a running build uses it, or if it was already gone."""
        with explained(self.root):
            with self._leases.locked():
                if home.name in self._leases.used_by_others():
                    return False
                aside = move_aside(home, self.root / "tmp")
            if aside:
                clear(aside)
            return aside is not None

    def resume(self, id_: str) -> Path:
        """The folder where a step keeps its progress; it may not exist yet."""
        return self.root / "resume" / id_

    def sweep(self, oldest: float = math.inf) -> int:
        """Remove what killed builds left behind; returns how many bytes that freed.

        The progress of a step is kept if it was last written after `oldest` (seconds since 1970).
        """
        with explained(self.root), self._leases.locked():
            self._leases.used_by_others()  # removes the leases of dead processes
        freed = 0
        stale = [left for left in self.root.glob("resume/*") if _is_older(left, oldest)]
        for left in [*self.root.glob("tmp/*.*"), *stale]:
            id_ = left.name.split(".")[0]
            if not _ID.fullmatch(id_):  # not ours
                continue
            with (
                explained(self.root),
                contextlib.suppress(Timeout, FileNotFoundError),
                self._file_lock(id_).acquire(timeout=0),
            ):
                size = tree_bytes(left)
                clear(left)
                freed += 0 if os.path.lexists(left) else size
        return freed

    @contextlib.contextmanager
    def scratch(self, id_: str) -> Iterator[Path]:
        """Yield an empty folder for work on an object, which nobody else makes or sweeps meanwhile."""
        with explained(self.root), self._lock(id_), self._work_folder(id_) as work:
            yield work

    def _examine(self, id_: str, locked: str | None, given: str) -> Stored | str:
        """The verified object, or why it cannot be used, as the rest of a sentence."""
        home, meta = self._home(id_), self.meta(id_)
        if meta is None or damage(home, meta):
            return _DAMAGED
        if locked and meta.origin and meta.digest != locked:
            return f"came from {meta.origin} and is not what the lock names"
        if given and meta.given and meta.given != given:
            return "was made from an artifact other than the result of the step before it"
        return Stored(meta, home / "data", cached=True)

    def _find_or_remove(self, id_: str, locked: str | None, given: str) -> Stored | None:
        """As `find`, while the lock is held."""
        found, home = self._examine(id_, locked, given), self._home(id_)
        if isinstance(found, Stored):
            return found
        if found is not _DAMAGED:
            self._discard(id_, found)
        elif os.path.lexists(home):
            self._warn(f"{self._describe(id_)} {found} and will be made again")
            self._remove_unread(home)
        return None

    def _discard(self, id_: str, reason: str) -> None:
        name = self._describe(id_)
        if not self.remove(self._home(id_)) and os.path.lexists(self._home(id_)):
            raise StoreProblem(
                f"{name} {reason}, but another build is using it. Run again when that build has ended."
            )
        self._warn(f"{name} {reason}; it is removed and will be made again")

    def _describe(self, id_: str) -> str:
        meta = self.meta(id_)
        return f"stored result {id_[:12]}" + (f" ({meta.step})" if meta else "")

    def _remove_unread(self, home: Path) -> None:
        """Remove what no process can be using, because it cannot be read."""
        if aside := move_aside(home, self.root / "tmp"):
            clear(aside)

    def _home(self, id_: str) -> Path:
        return self.root / "objects" / id_[:2] / id_

    def _file_lock(self, id_: str) -> FileLock:
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "locks" / f"{id_}.lock")

    @contextlib.contextmanager
    def _lock(self, id_: str) -> Iterator[None]:
        lock = self._file_lock(id_)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._warn("another build is running this step; waiting for its result")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _work_folder(self, id_: str) -> Iterator[Path]:
        (self.root / "tmp").mkdir(exist_ok=True)
        for left in self.root.glob(f"tmp/{id_}.*"):  # we hold the lock, so its maker is dead
            clear(left)
        work = Path(tempfile.mkdtemp(prefix=f"{id_}.", dir=self.root / "tmp"))
        try:
            yield work
        finally:
            clear(work)  # what a dying tool still writes is swept later

    def _make(self, entry: Entry, make: Callable[[Path], Path]) -> Stored:
        home = self._home(entry.id)
        with self._work_folder(entry.id) as work:
            (work / "scratch").mkdir()
            start = time.perf_counter()
            result = make(work / "scratch")
            seconds = round(time.perf_counter() - start, 3)
            meta = write_object(work / "object", result, entry, seconds)
            home.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(home):  # unreadable: a readable object would have been found
                self._remove_unread(home)
            (work / "object").replace(home)
            sync(home.parent)
        shutil.rmtree(self.resume(entry.id), ignore_errors=True)
        return Stored(meta, home / "data", cached=False)


def _is_older(path: Path, time_: float) -> bool:
    try:
        return path.stat().st_mtime < time_
    except FileNotFoundError:
        return False
