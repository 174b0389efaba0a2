"""One object of the store: a folder with `meta.json` and `data/`, how it is written and how it is checked.

`data/` holds regular files and folders only: a link would let the bytes change without a new digest. A link, or
a meta.json that belongs to another id, counts as damage.
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
from typing import NamedTuple

from yolodeploy.system import digest_of, tree_bytes, tree_digest, tree_files

_MAX_SECONDS = 253_402_300_800  # since 1970: later times, from the year 10000 on, cannot be shown
_MAX_BYTES = 1 << 53


@dataclass(frozen=True)
class Meta:
    """The description of an object. `created` is in seconds since 1970 (for `prune`).

    `origin` is the shared store that it was fetched from, empty if it was made here; `given` is the digest
    of the artifact that it was made from, if known.
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
        """Encode as the text of meta.json; `seal` is the digest of the rest."""
        plain = asdict(self)
        return json.dumps({**plain, "seal": digest_of(plain)}, indent=1) + "\n"


@dataclass(frozen=True)
class Stored:
    """An object of the store. `cached` tells whether it was there before it was asked for."""

    meta: Meta
    path: Path
    cached: bool


class NotStored(Exception):
    """The store does not have an object, and nothing is to be made."""


class Entry(NamedTuple):
    """An object to find or make: its id, the step that makes it, its format.

    `locked` is the digest that a lock names: a fetched object must have it. `origin` is the shared store
    that the object is fetched from, `given` the digest of the artifact that it is made from.
    """

    id: str
    step: str
    format: str
    locked: str | None = None
    origin: str = ""
    given: str = ""


def read_meta(home: Path) -> Meta | None:
    """Read the description of the object in a folder; None if it is missing or damaged."""
    try:
        meta = parse_meta((home / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if meta.id == home.name else None


def parse_meta(text: str | bytes) -> Meta:
    """Parse the text of meta.json; raises ValueError for anything else."""
    try:
        raw = json.loads(text)
        seal = raw.pop("seal", None)
        meta = Meta(**raw)
        if seal not in (None, digest_of(raw)):
            raise ValueError("it was changed")
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    texts = (meta.id, meta.step, meta.format, meta.digest, meta.origin, meta.given)
    times = _in_range(meta.seconds, _MAX_SECONDS) and _in_range(meta.created, _MAX_SECONDS)
    if not all(isinstance(text, str) for text in texts) or not times:
        raise ValueError("it holds a value of another type, or an impossible time")
    if not _in_range(meta.bytes, _MAX_BYTES):
        raise ValueError("it names an impossible size")
    return meta


def _in_range(value: object, end: int) -> bool:
    return isinstance(value, int | float) and 0 <= value < end


def damage(home: Path, meta: Meta) -> str | None:
    """Say what is wrong with a stored object's bytes, as the rest of a sentence; None if nothing is."""
    data = home / "data"
    if home.is_symlink():
        return "is a link to another place"
    try:
        if odd := next(odd_entries(data), None):
            return f"holds something that is not a file: {odd}"
        same = (tree_digest(data), tree_bytes(data)) == (meta.digest, meta.bytes)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if same else "has bytes that do not match its digest"


def odd_entries(folder: Path) -> Iterator[str]:
    """List the relative names of links, pipes and devices in a folder.

    Raises OSError for an entry that cannot be examined.
    """
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            yield path.relative_to(folder.parent).as_posix()


def write_object(home: Path, result: Path, entry: Entry, seconds: float) -> Meta:
    """Move a step's result into the new object folder `home`, describe it, and force all of it to disk."""
    home.mkdir()
    data = home / "data"
    result.replace(data)
    meta = Meta(
        entry.id, entry.step, entry.format, tree_digest(data), tree_bytes(data),
        seconds, round(time.time(), 3), entry.origin, entry.given,
    )  # fmt: skip
    (home / "meta.json").write_text(meta.text(), encoding="utf-8")
    for path in tree_files(home).values():
        path.chmod(0o444)
        sync(path)
    for path in sorted((p for p in home.rglob("*") if p.is_dir()), reverse=True):
        sync(path)
    sync(home)
    return meta


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_aside(home: Path, folder: Path) -> Path | None:
    """Move an object out of sight in one step, into `folder`; None if it was already gone.

    Returns the path to clear afterwards. If that does not happen, the next sweep of `folder` does it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=folder))
    try:
        home.replace(aside / "removed")
    except OSError as error:
        clear(aside)
        if error.errno != errno.ENOENT:
            raise
        return None
    return aside


def clear(path: Path) -> None:
    """Remove a file or folder as far as possible; the rest stays for the next sweep."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
