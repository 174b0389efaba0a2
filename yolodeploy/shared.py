"""A store that a team and its CI share: results of steps are fetched from it and offered to it.

    <url>/objects/<id[:2]>/<id>.tar      archive.py; written once, never changed

Whoever can write there decides what lies there, so a result is taken only as far as digests prove it: the files
against the digest in their own description (nothing was lost on the way), the description against the id and format
that were asked for, and the digest against the one that the recipe's lock names for the step, if it
names one (nobody exchanged it). Measurements, memos and resumes are not shared. A shared store that
fails costs one warning and is then left alone. See docs/decisions/017-shared-store.md.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from yolodeploy.archive import MOST_BYTES, BadArchive, pack, read_head, unpack
from yolodeploy.console import Console
from yolodeploy.digest import tree_digest
from yolodeploy.diskfaults import DISK
from yolodeploy.errors import RecipeError, YolodeployError
from yolodeploy.manifest import RESERVED
from yolodeploy.mounted import Mounted
from yolodeploy.objects import Meta, Stored
from yolodeploy.place import Address, NoFile, Place, place_at
from yolodeploy.store import Store

VARIABLE = "YOLODEPLOY_STORE"
_OVERHEAD = 10**8  # headers, padding and description of an archive, generously


class _Absent(Exception):
    """There is no such result, or the shared store cannot be read."""


class Shared:
    """The shared store at an address; `locked` are output digests by step id, from the recipe's lock."""

    def __init__(
        self, address: Address, place: Place, console: Console, locked: Mapping[str, str]
    ) -> None:
        self._shown, self._reason = address.shown, address.reason
        self._place, self._console, self._locked = place, console, locked
        self._readable, self._writable = True, place.writable

    def fetch(self, store: Store, id_: str, step: str, format_: str) -> Stored | None:
        """The result with this id, verified and put into the local store; None if there is none."""
        if not self._readable:
            return None

        def make(work: Path) -> Path:
            return self._download(work, id_, step, format_)

        try:
            stored = store.obtain(
                id_,
                step,
                format_,
                make,
                self._console.warn,
                locked=self._locked.get(id_),
                origin=self._shown,
            )
        except _Absent:
            return None
        except BadArchive as fault:
            self._console.warn(
                f"{self._shown}/{_key(id_)} is not used: it {fault}. `{step}` runs here; remove "
                "that file if you may."
            )
            return None
        if not stored.cached:
            proof = "as locked" if id_ in self._locked else "which no lock names yet"
            self._console.info(
                f"{step} {format_} fetched from {self._shown}, {proof} "
                f"({stored.meta.bytes / 1e6:.2f} MB)"
            )
        return stored

    def _download(self, work: Path, id_: str, step: str, format_: str) -> Path:
        file, data = work / "archive", work / "data"
        data.mkdir()
        with self._reading():
            self._place.get(_key(id_), file, MOST_BYTES + _OVERHEAD)
        if not file.is_file():  # a driver took a folder for a file
            raise BadArchive("is no file")
        with file.open("rb") as archive:
            meta = unpack(archive, data)
        file.unlink()
        if (meta.id, meta.step, meta.format) != (id_, step, format_):
            raise BadArchive(f"is of another step ({meta.step[:20]}, {meta.id[:12]})")
        self._require_proven(meta, data)
        return data

    def _require_proven(self, meta: Meta, data: Path) -> None:
        digest, locked = tree_digest(data), self._locked.get(meta.id)
        taken = RESERVED & {path.name for path in data.iterdir()}
        if digest != meta.digest:
            raise BadArchive("does not match its own digest")
        if locked and digest != locked:
            raise BadArchive(f"has the digest {digest[:12]}, but the lock names {locked[:12]}")
        if taken:
            raise BadArchive(f"holds a file named {min(taken)}, which is a bundle's own")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise _Absent from None
        except YolodeployError:  # its driver is not installed
            raise
        except NoFile as fault:
            raise BadArchive(str(fault)) from None
        except Exception as fault:  # a driver may fail in any way
            if isinstance(fault, OSError) and fault.errno in DISK:
                raise  # of the local store
            self._readable = False
            self._console.warn(
                f"{self._shown} cannot be read: {self._reason(fault)}. This build goes on without it."
            )
            raise _Absent from None

    def offer(self, store: Store, stored: Stored) -> None:
        """Put a result there for others, unless there is one; what fails costs a warning, and no more."""
        if not self._writable:
            return
        with store.scratch(stored.meta.id, self._console.warn) as folder, self._writing():
            file = folder / "archive"
            if not self._packed(stored, file):
                return
            try:
                self._place.put(file, _key(stored.meta.id))
            except FileExistsError:
                self._compare(stored.meta)
                return
            self._console.detail(f"{stored.meta.step}: shared through {self._shown}")

    def _packed(self, stored: Stored, file: Path) -> bool:
        try:
            pack(stored.meta, stored.path, file)
        except ValueError as fault:  # what the format has no room for
            self._console.detail(f"`{stored.meta.step}` is not shared: {fault}")
            return False
        except OSError as fault:  # of the local store
            self._console.warn(
                f"`{stored.meta.step}` is not shared: no copy could be made in {file.parent.parent}: "
                f"{fault.strerror or fault}."
            )
            return False
        return True

    def _compare(self, meta: Meta) -> None:
        """Say so if what is there is not what was made here."""
        try:
            theirs = read_head(io.BytesIO(self._place.head(_key(meta.id)))).digest
        except (BadArchive, NoFile):
            theirs = "nothing that can be read"
        if theirs != meta.digest:
            self._console.warn(
                f"{self._shown}/{_key(meta.id)} holds {theirs[:24]}, but `{meta.step}` gave "
                f"{meta.digest[:12]} here. It stays as it is: the step is not reproducible, or the file "
                "was damaged or exchanged."
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except YolodeployError:
            raise
        except Exception as fault:  # noqa: BLE001 - a driver may fail in any way
            self._writable = False
            self._console.warn(
                f"{self._shown} cannot be written: {self._reason(fault)}. New results stay on this machine."
            )


def _key(id_: str) -> str:
    return f"objects/{id_[:2]}/{id_}.tar"


def shared_store(
    named: str | None, console: Console, locked: Mapping[str, str], own: Path
) -> Shared | None:
    """The shared store that --store or YOLODEPLOY_STORE names; an empty name means none.

    Raises RecipeError for an address that is none, or that leads into the store `own` of this machine.
    """
    url = os.environ.get(VARIABLE, "") if named is None else named
    if not url:
        return None
    source = VARIABLE if named is None else "--store"
    address = Address(url, source)
    place = place_at(address)
    if isinstance(place, Mounted) and place.root.resolve() == own.resolve():
        raise RecipeError(
            f"{source} {address.shown}: is the store of this machine. Name a folder of its own."
        )
    return Shared(address, place, console, locked)
