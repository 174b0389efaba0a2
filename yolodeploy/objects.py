"""One object of the store: a folder with `meta.json` and `data/`, and what makes it sound.

`data/` holds regular files and folders alone. A link would let the bytes change behind the digest's back, so
one is a fault, as is a meta.json that belongs to another id.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from yolodeploy.backend import Artifact
from yolodeploy.digest import digest_of, tree_bytes, tree_digest, tree_files

_MOST_SECONDS = 253_402_300_800  # since 1970: the year 10000 cannot be shown
_MOST_BYTES = 1 << 53


@dataclass(frozen=True)
class Meta:
    """What the store knows of an object. `created` is in seconds since 1970 (for `prune`).

    `origin` is the shared store that it was fetched from, empty if it was made here; `given` is then the digest
    of the artifact that the step was given.
    """

    id: str
    step: str
    format: str
    digest: str
    bytes: int
    seconds: float
    created: float
    origin: str = ""
    given: str = ""

    def text(self) -> str:
        """What is written in meta.json; `seal` is the digest of the rest."""
        plain = asdict(self)
        return json.dumps({**plain, "seal": digest_of(plain)}, indent=1) + "\n"


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


def read_meta(home: Path) -> Meta | None:
    """What is known of the object in a folder, or None if that cannot be read."""
    try:
        meta = parse_meta((home / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if meta.id == home.name else None


def parse_meta(text: str | bytes) -> Meta:
    """The description that is written in meta.json; raises ValueError for anything else."""
    try:
        raw = json.loads(text)
        seal = raw.pop("seal", None)
        meta = Meta(**raw)
        if seal not in (None, digest_of(raw)):
            raise ValueError("it was changed")
    except (TypeError, AttributeError, RecursionError) as reason:
        raise ValueError(str(reason)) from None
    words = (meta.id, meta.step, meta.format, meta.digest, meta.origin, meta.given)
    sound = all(isinstance(word, str) for word in words)
    times = _within(meta.seconds, _MOST_SECONDS) and _within(meta.created, _MOST_SECONDS)
    if not sound or not times or not _within(meta.bytes, _MOST_BYTES):
        raise ValueError("a value that cannot be")
    return meta


def _within(value: object, most: int) -> bool:
    return isinstance(value, int | float) and 0 <= value < most


def fault(home: Path, meta: Meta) -> str | None:
    """What is wrong with a stored object's bytes, or None."""
    data = home / "data"
    if home.is_symlink():
        return "is a link to somewhere else"
    try:
        odd = next(odd_entries(data), None)
        if odd:
            return f"holds something that is no file: {odd}"
        digest, size = tree_digest(data), tree_bytes(data)
    except OSError as reason:
        return f"cannot be read: {reason.strerror}"
    same = (digest, size) == (meta.digest, meta.bytes)
    return None if same else "its bytes do not match its digest"


def odd_entries(folder: Path) -> Iterator[str]:
    """Relative names of what is neither a regular file nor a folder: links, pipes, devices.

    Raises OSError for what cannot be looked at.
    """
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            yield path.relative_to(folder.parent).as_posix()


def finish(
    work: Path, result: Path, named: tuple[str, str, str], seconds: float, come: tuple[str, str]
) -> Meta:
    """Make `work/object` of a step's result, whole and on disk; `named` is id, step and format, `come` origin and given."""
    whole = work / "object"
    whole.mkdir()
    result.replace(whole / "data")
    size, digest = tree_bytes(whole / "data"), tree_digest(whole / "data")
    meta = Meta(*named, digest, size, seconds, round(time.time(), 3), *come)
    (whole / "meta.json").write_text(meta.text(), encoding="utf-8")
    _settle(whole)
    return meta


def _settle(folder: Path) -> None:
    """Make files read only and force everything to disk, so that the rename commits whole content."""
    for path in tree_files(folder).values():
        path.chmod(0o444)
        sync(path)
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(home: Path, folder: Path) -> Path | None:
    """Take a finished object out of sight in one move, into `folder`; None if it was gone already.

    Returns what is to be cleared afterwards; `folder` is swept of it if that does not happen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grave = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=folder))
    try:
        home.replace(grave / "removed")
    except OSError as fault:
        clear(grave)
        if fault.errno != errno.ENOENT:
            raise
        return None
    return grave


def clear(path: Path) -> None:
    """Remove a file or folder as far as that is possible; the rest stays for the next sweep."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
