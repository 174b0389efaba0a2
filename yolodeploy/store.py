"""The content-keyed store: the only thing that a build writes to, one finished folder at a time.

    <root>/objects/<id[:2]>/<id>/meta.json   what it is, and the digest of data/
                                 data/       the files, read only
    <root>/tmp/<id>.<random>/                an object being made; worthless after a kill
    <root>/resume/<id>/                      how far a long step came, until it has a result
    <root>/locks/<id>.lock                   held while an object is made

An object appears by one rename of a finished, synced folder, so it is there whole or not
at all. Its digest is checked on every read; a damaged one is set aside and made again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from yolodeploy.backend import Artifact
from yolodeploy.digest import tree_bytes, tree_digest, tree_files
from yolodeploy.errors import StoreProblem

VARIABLE = "YOLODEPLOY_CACHE"
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Meta:
    """What the store knows of an object. `created` is in seconds since 1970 (for `prune`)."""

    id: str
    step: str
    format: str
    digest: str
    bytes: int
    seconds: float
    created: float


@dataclass(frozen=True)
class Stored:
    """An object of the store. `cached` tells whether it was there before it was asked for."""

    meta: Meta
    path: Path
    cached: bool

    @property
    def artifact(self) -> Artifact:
        """The object as the input of a next step."""
        return Artifact(self.meta.format, self.path, self.meta.digest)


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


class Store:
    """A store below `root`, which is made when something is first written."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def peek(self, id_: str) -> bool:
        """Whether an object is there; its bytes are not read."""
        return os.path.isfile(self._home(id_) / "meta.json")  # noqa: PTH113 - False where forbidden

    def meta(self, id_: str) -> Meta | None:
        """What is known of an object, or None if it is not there."""
        return read_meta(self._home(id_))

    def find(self, id_: str, warn: Callable[[str], None]) -> Stored | None:
        """A verified object, or None. One that does not match its digest is removed, with a warning."""
        found = self._sound(id_)
        if found or not os.path.lexists(self._home(id_)):
            return found
        with _explained(self.root), self._lock(id_, warn):
            found = self._sound(id_)
            if found is None:
                self._discard(id_, warn)
            return found

    def _sound(self, id_: str) -> Stored | None:
        home, meta = self._home(id_), self.meta(id_)
        if meta is None or fault(home, meta):
            return None
        return Stored(meta, home / "data", cached=True)

    def _discard(self, id_: str, warn: Callable[[str], None]) -> None:
        """Remove a damaged object; the lock is held, so that nobody has just made it again."""
        home, meta = self._home(id_), self.meta(id_)
        if os.path.lexists(home):
            step = f" ({meta.step})" if meta else ""
            warn(f"stored result {id_[:12]}{step} is damaged and will be made again")
            _remove(home)

    def obtain(
        self,
        id_: str,
        step: str,
        format_: str,
        make: Callable[[Path], Path],
        warn: Callable[[str], None],
    ) -> Stored:
        """The object with this id: found, or made by `make(work folder) -> result folder` below it.

        Of several processes that want an object at once, one makes it and the others wait.
        """
        found = self.find(id_, warn)
        if found:
            return found
        with _explained(self.root), self._lock(id_, warn):
            return self._sound(id_) or self._make(id_, step, format_, make)

    def entries(self) -> Iterator[tuple[Path, Meta | None]]:
        """All objects: their folders and what is known of them (None: unreadable)."""
        for home in sorted(self.root.glob("objects/??/*")):
            yield home, read_meta(home)

    def remove(self, home: Path) -> None:
        """Remove an object."""
        with _explained(self.root):
            _remove(home)

    def resume(self, id_: str) -> Path:
        """The folder, perhaps not there yet, where a step keeps how far it came."""
        return self.root / "resume" / id_

    def sweep(self, oldest: float = 0.0) -> int:
        """Remove what killed builds left behind; returns how many bytes that freed.

        How far a step came is kept if that was last written after `oldest` (seconds since 1970).
        """
        freed = 0
        stale = [left for left in self.root.glob("resume/*") if _older(left, oldest)]
        for left in [*self.root.glob("tmp/*"), *stale]:
            with (
                _explained(self.root),
                contextlib.suppress(Timeout),
                self._file_lock(left.name.split(".")[0]).acquire(timeout=0),
            ):
                freed += tree_bytes(left)
                _remove(left)
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

    def _make(self, id_: str, step: str, format_: str, make: Callable[[Path], Path]) -> Stored:
        (self.root / "tmp").mkdir(exist_ok=True)
        for left in self.root.glob(f"tmp/{id_}.*"):  # the lock is held: whoever made it is gone
            _remove(left)
        work = Path(tempfile.mkdtemp(prefix=f"{id_}.", dir=self.root / "tmp"))
        try:
            (work / "scratch").mkdir()
            start = time.perf_counter()
            result = make(work / "scratch")
            seconds = round(time.perf_counter() - start, 3)
            return self._commit(work, result, id_, step, format_, seconds)
        finally:
            shutil.rmtree(work, ignore_errors=True)  # what a dying tool still writes is swept later

    def _commit(
        self, work: Path, result: Path, id_: str, step: str, format_: str, seconds: float
    ) -> Stored:
        whole = work / "object"
        whole.mkdir()
        result.replace(whole / "data")
        size, digest = tree_bytes(whole / "data"), tree_digest(whole / "data")
        meta = Meta(id_, step, format_, digest, size, seconds, round(time.time(), 3))
        (whole / "meta.json").write_text(
            json.dumps(asdict(meta), indent=1) + "\n", encoding="utf-8"
        )
        _settle(whole)
        home = self._home(id_)
        home.parent.mkdir(parents=True, exist_ok=True)
        if home.exists():  # unreadable leftovers: a readable object would have been found
            _remove(home)
        whole.replace(home)
        _sync(home.parent)
        shutil.rmtree(self.resume(id_), ignore_errors=True)
        return Stored(meta, home / "data", cached=False)


def read_meta(home: Path) -> Meta | None:
    """What is known of the object in a folder, or None if that cannot be read."""
    try:
        meta = Meta(**json.loads((home / "meta.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    numbers = (meta.bytes, meta.seconds, meta.created)
    sound = meta.id == home.name and all(isinstance(number, int | float) for number in numbers)
    return meta if sound else None


def fault(home: Path, meta: Meta) -> str | None:
    """What is wrong with a stored object's bytes, or None."""
    try:
        digest, size = tree_digest(home / "data"), tree_bytes(home / "data")
    except OSError as reason:
        return f"cannot be read: {reason.strerror}"
    return (
        None if (digest, size) == (meta.digest, meta.bytes) else "its bytes do not match its digest"
    )


def _older(path: Path, than: float) -> bool:
    """Whether something is there that was last written before a time."""
    try:
        return path.stat().st_mtime < than
    except FileNotFoundError:
        return False


def _settle(folder: Path) -> None:
    """Make files read only and force everything to disk, so that the rename commits whole content."""
    for path in tree_files(folder).values():
        path.chmod(0o444)
        _sync(path)
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        if reason.errno in FULL:
            raise StoreProblem(
                f"{root}: the disk is full. Free some space, `yolodeploy cache prune`, or choose "
                f"another folder with --cache or {VARIABLE}."
            ) from None
        raise StoreProblem(
            f"{reason.filename or root}: {reason.strerror}. The store must be writable; choose another "
            f"folder with --cache or {VARIABLE}."
        ) from None
