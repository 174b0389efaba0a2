"""The content-keyed store: the only thing that a build writes to, one finished folder at a time.

    <root>/objects/<id[:2]>/<id>/meta.json   what it is, and the digest of data/
                                 data/       the files, read only
    <root>/tmp/<id>.<random>/                an object being made, or removed; worthless after a kill
    <root>/resume/<id>/                      how far a long step came, until it has a result
    <root>/locks/<id>.lock                   held while an object is made
    <root>/users/                            which process uses which objects (leases.py)

An object appears by one rename of a finished, synced folder, and goes by one, so it is there whole
or not at all. Its digest is checked on every read; a damaged one is set aside and made again.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock, Timeout

from yolodeploy.digest import tree_bytes
from yolodeploy.diskfaults import VARIABLE, explained
from yolodeploy.errors import StoreProblem
from yolodeploy.leases import Leases
from yolodeploy.objects import (
    Meta,
    Stored,
    clear,
    fault,
    finish,
    read_meta,
    set_aside,
    sync,
)

DIGESTS = "digests.json"  # of input files: see `StatCache`
_ID = re.compile("[0-9a-f]{64}")


def default_root() -> Path:
    """The user's cache folder, or what YOLODEPLOY_CACHE names."""
    named = os.environ.get(VARIABLE)
    if not named:
        return Path(platformdirs.user_cache_dir("yolodeploy"))
    try:
        return Path(named).expanduser()
    except RuntimeError:
        raise StoreProblem(
            f"{VARIABLE}={named}: there is no such home folder. Name another."
        ) from None


_DAMAGED = "is damaged"


class _Wanted(NamedTuple):
    """What an object must have besides its own digest: see `Store.find`."""

    locked: str | None = None
    given: str = ""

    def lacks(self, meta: Meta) -> str | None:
        """Why an object is not what is wanted, as the rest of a sentence."""
        if self.locked and meta.origin and meta.digest != self.locked:
            return f"came from {meta.origin} and is not what the lock names"
        if self.given and meta.given and meta.given != self.given:
            return "was made of something else than the result before it"
        return None


class Store:
    """A store below `root`, which is made when something is first written."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._leases = Leases(self.root)

    def peek(self, id_: str) -> bool:
        """Whether an object is there; its bytes are not read."""
        return os.path.isfile(self._home(id_) / "meta.json")  # noqa: PTH113 - False where forbidden

    def meta(self, id_: str) -> Meta | None:
        """What is known of an object, or None if it is not there."""
        return read_meta(self._home(id_))

    def hold(self, ids: Iterable[str]) -> None:
        """Keep objects from being pruned while this process lives, whether they are there yet or not."""
        with explained(self.root):
            self._leases.hold(ids)

    def find(
        self, id_: str, warn: Callable[[str], None], locked: str | None = None, given: str = ""
    ) -> Stored | None:
        """A verified object, or None. One that is not sound is removed, with a warning.

        `locked` is the digest that a lock names: what was fetched must have it. What was made here may
        differ, for the lock may be of another machine; but if `given` is named, it must have been made of that.
        """
        self.hold([id_])
        wanted = _Wanted(locked, given)
        found = self._look(id_, wanted)
        if isinstance(found, Stored):
            return found
        if not os.path.lexists(self._home(id_)):
            return None
        with explained(self.root), self._lock(id_, warn):
            return self._settle(id_, warn, wanted)

    def discard(self, id_: str, reason: str, warn: Callable[[str], None]) -> None:
        """Remove an object that is sound but of no use any more; `reason` is the rest of a sentence.

        Raises StoreProblem if another process uses it.
        """
        with explained(self.root), self._lock(id_, warn):
            self._discard(id_, reason, warn)

    def _settle(self, id_: str, warn: Callable[[str], None], wanted: _Wanted) -> Stored | None:
        """What is there if it is sound; else nothing is there afterwards. The lock is held."""
        found = self._look(id_, wanted)
        if isinstance(found, Stored):
            return found
        if found is _DAMAGED and os.path.lexists(self._home(id_)):
            warn(f"{self._named(id_)} {found} and will be made again")
            self._drop(self._home(id_))
        elif found is not _DAMAGED:
            self._discard(id_, found, warn)
        return None

    def _look(self, id_: str, wanted: _Wanted) -> Stored | str:
        """A sound object, or why there is none, as the rest of a sentence."""
        home, meta = self._home(id_), self.meta(id_)
        if meta is None or fault(home, meta):
            return _DAMAGED
        return wanted.lacks(meta) or Stored(meta, home / "data", cached=True)

    def _discard(self, id_: str, reason: str, warn: Callable[[str], None]) -> None:
        name = self._named(id_)
        if not self.remove(self._home(id_)) and os.path.lexists(self._home(id_)):
            raise StoreProblem(
                f"{name} {reason}, but another build is using it. Run again when that has ended."
            )
        warn(f"{name} {reason}; it is removed and will be made again")

    def _named(self, id_: str) -> str:
        meta = self.meta(id_)
        return f"stored result {id_[:12]}" + (f" ({meta.step})" if meta else "")

    def _drop(self, home: Path) -> bool:
        grave = set_aside(home, self.root / "tmp")
        if grave:
            clear(grave)
        return grave is not None

    def obtain(
        self,
        id_: str,
        step: str,
        format_: str,
        make: Callable[[Path], Path],
        warn: Callable[[str], None],
        *,
        locked: str | None = None,
        origin: str = "",
        given: str = "",
    ) -> Stored:
        """The object with this id: found, or made by `make(work folder) -> result folder` below it.

        Of several processes that want an object at once, one makes it and the others wait. `locked` is
        as for `find`; `origin` is the shared store that `make` fetches it from, `given` the digest of what
        `make` makes it of.
        """
        found = self.find(id_, warn, locked)
        if found:
            return found
        with explained(self.root), self._lock(id_, warn):
            found = self._settle(id_, warn, _Wanted(locked))
            return found or self._make((id_, step, format_), make, (origin, given))

    def entries(self) -> Iterator[tuple[Path, Meta | None]]:
        """All objects: their folders and what is known of them (None: unreadable)."""
        for home in sorted(self.root.glob("objects/??/*")):
            if _ID.fullmatch(home.name):  # whatever else lies here is not ours
                yield home, read_meta(home)

    def remove(self, home: Path) -> bool:
        """Remove an object; False if a running build uses it, or it was gone already."""
        with explained(self.root):
            with self._leases.gate():
                in_use = home.name in self._leases.used()
                grave = None if in_use else set_aside(home, self.root / "tmp")
            if grave:
                clear(grave)
            return grave is not None

    def resume(self, id_: str) -> Path:
        """The folder, perhaps not there yet, where a step keeps how far it came."""
        return self.root / "resume" / id_

    def sweep(self, oldest: float = math.inf) -> int:
        """Remove what killed builds left behind; returns how many bytes that freed.

        How far a step came is kept if that was last written after `oldest` (seconds since 1970).
        """
        with explained(self.root), self._leases.gate():
            self._leases.used()  # those of the dead go
        freed = 0
        stale = [left for left in self.root.glob("resume/*") if _older(left, oldest)]
        for left in [*self.root.glob("tmp/*.*"), *stale]:
            if not _ID.fullmatch(left.name.split(".")[0]):  # not ours
                continue
            with (
                explained(self.root),
                contextlib.suppress(Timeout, FileNotFoundError),
                self._file_lock(left.name.split(".")[0]).acquire(timeout=0),
            ):
                size = tree_bytes(left)
                clear(left)
                freed += 0 if os.path.lexists(left) else size
        return freed

    def _home(self, id_: str) -> Path:
        return self.root / "objects" / id_[:2] / id_

    def _file_lock(self, id_: str) -> FileLock:
        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "locks" / f"{id_}.lock")

    @contextlib.contextmanager
    def _lock(self, id_: str, warn: Callable[[str], None]) -> Iterator[None]:
        lock = self._file_lock(id_)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warn("another build is running this step; waiting for its result")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def scratch(self, id_: str, warn: Callable[[str], None]) -> Iterator[Path]:
        """An empty folder for work on an object, which nobody else makes or sweeps meanwhile."""
        with explained(self.root), self._lock(id_, warn), self._work(id_) as work:
            yield work

    @contextlib.contextmanager
    def _work(self, id_: str) -> Iterator[Path]:
        (self.root / "tmp").mkdir(exist_ok=True)
        for left in self.root.glob(f"tmp/{id_}.*"):  # the lock is held: whoever made it is gone
            clear(left)
        work = Path(tempfile.mkdtemp(prefix=f"{id_}.", dir=self.root / "tmp"))
        try:
            yield work
        finally:
            clear(work)  # what a dying tool still writes is swept later

    def _make(
        self, named: tuple[str, str, str], make: Callable[[Path], Path], come: tuple[str, str]
    ) -> Stored:
        with self._work(named[0]) as work:
            (work / "scratch").mkdir()
            start = time.perf_counter()
            result = make(work / "scratch")
            seconds = round(time.perf_counter() - start, 3)
            return self._commit(work / "object", finish(work, result, named, seconds, come))

    def _commit(self, whole: Path, meta: Meta) -> Stored:
        home = self._home(meta.id)
        home.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(home):  # unreadable leftovers: a readable object would have been found
            self._drop(home)
        whole.replace(home)
        sync(home.parent)
        shutil.rmtree(self.resume(meta.id), ignore_errors=True)
        return Stored(meta, home / "data", cached=False)


def _older(path: Path, than: float) -> bool:
    """Whether something is there that was last written before a time."""
    try:
        return path.stat().st_mtime < than
    except FileNotFoundError:
        return False
