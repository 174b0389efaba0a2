"""A store that a team and its CI share: results of steps are fetched from it and offered to it.

    <url>/objects/<id[:2]>/<id>.tar      see tarball.py; written once, never changed

Anyone with write access decides what lies there, so a result is used only if digests prove it: the files
match the digest in their own description (nothing was lost on the way), the description has the id and
format that were asked for, and the digest is the one that the recipe's lock names for the step, if it
names one (nobody replaced the file). Measurements, memos and unfinished steps are not shared. If the shared
store fails, one warning is printed and it is not used again. See docs/decisions/017-shared-store.md.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.errors import RecipeError, YolodeployError
from yolodeploy.store.disk_errors import DISK_ERRORS
from yolodeploy.store.objects import Entry, Meta, Stored
from yolodeploy.store.remote.folder import Folder
from yolodeploy.store.remote.storage import Address, Storage, UnusableFile
from yolodeploy.store.remote.tarball import MAX_BYTES, BadArchive, pack, read_head, unpack
from yolodeploy.store.store import Store
from yolodeploy.system import Console, tree_digest

VARIABLE = "YOLODEPLOY_STORE"
_OVERHEAD = 10**8  # a generous bound for an archive's headers, padding and description


class _Absent(Exception):
    """There is no such result, or the shared store cannot be read."""


@dataclass
class SharedStore:
    """The shared store at an address; `locked` maps step ids to the output digests in the lock.

    A result that holds a file with a `reserved` name is not used.
    """

    address: Address
    storage: Storage
    console: Console
    locked: Mapping[str, str]
    reserved: Collection[str]
    _readable: bool = True
    _writable: bool = True

    def fetch(self, store: Store, id_: str, step: str, format_: str) -> Stored | None:
        """Fetch a result, verify it and put it into the local store; None if there is none."""
        if not self._readable:
            return None
        origin, warn = self.address.display, self.console.warn

        def make(work: Path) -> Path:
            return self._download(work, id_, step, format_)

        try:
            entry = Entry(id_, step, format_, self.locked.get(id_), origin=origin)
            stored = store.obtain(entry, make)
        except _Absent:
            return None
        except BadArchive as error:
            warn(
                f"{origin}/{_key(id_)} is not used: it {error}. `{step}` runs here; delete that file "
                "if you have the right to."
            )
            return None
        if not stored.cached:
            proof = "as locked" if id_ in self.locked else "which no lock names yet"
            size = f"{stored.meta.bytes / 1e6:.2f} MB"
            self.console.info(f"{step} {format_} fetched from {origin}, {proof} ({size})")
        return stored

    def _download(self, work: Path, id_: str, step: str, format_: str) -> Path:
        file, data = work / "archive", work / "data"
        data.mkdir()
        with self._reading():
            self.storage.get(_key(id_), file, MAX_BYTES + _OVERHEAD)
        if not file.is_file():  # a driver took a folder for a file
            raise BadArchive("is not a file")
        with file.open("rb") as archive:
            meta = unpack(archive, data)
        file.unlink()
        if (meta.id, meta.step, meta.format) != (id_, step, format_):
            raise BadArchive(f"belongs to another step ({meta.step[:20]}, {meta.id[:12]})")
        self._require_proven(meta, data)
        return data

    def _require_proven(self, meta: Meta, data: Path) -> None:
        digest, locked = tree_digest(data), self.locked.get(meta.id)
        taken = {path.name for path in data.iterdir()}.intersection(self.reserved)
        if digest != meta.digest:
            raise BadArchive("does not match its own digest")
        if locked and digest != locked:
            raise BadArchive(f"has the digest {digest[:12]}, but the lock names {locked[:12]}")
        if taken:
            raise BadArchive(f"holds a file named {min(taken)}, which a bundle needs for itself")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise _Absent from None
        except YolodeployError:  # its driver is not installed
            raise
        except UnusableFile as error:
            raise BadArchive(str(error)) from None
        except Exception as error:  # a driver may fail in any way
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise  # of the local store
            self._readable = False
            self._warn_failed("read", error, "This build goes on without it")
            raise _Absent from None

    def offer(self, store: Store, stored: Stored) -> None:
        """Share a result unless it is there already; a failure costs a warning and nothing else."""
        if not (self._writable and self.storage.writable):
            return
        meta, console = stored.meta, self.console
        with store.scratch(meta.id) as folder, self._writing():
            file = folder / "archive"
            try:
                pack(meta, stored.path, file)
            except ValueError as error:  # what the format has no room for
                console.detail(f"`{meta.step}` is not shared: {error}")
                return
            except OSError as error:  # of the local store
                console.warn(
                    f"`{meta.step}` is not shared: no copy could be made in {folder.parent}: "
                    f"{error.strerror or error}."
                )
                return
            try:
                self.storage.put(file, _key(meta.id))
            except FileExistsError:
                self._compare(meta)
                return
            console.detail(f"{meta.step}: shared through {self.address.display}")

    def _compare(self, meta: Meta) -> None:
        """Warn if the shared result is not the one that was made here."""
        try:
            theirs = read_head(io.BytesIO(self.storage.head(_key(meta.id)))).digest
        except (BadArchive, UnusableFile):
            theirs = ""
        if theirs != meta.digest:
            self.console.warn(
                f"{self.address.display}/{_key(meta.id)} holds {theirs[:12] or 'nothing readable'}, but "
                f"`{meta.step}` gave {meta.digest[:12]} here. It is not overwritten: either the step is not "
                "reproducible, or the file was damaged or replaced."
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except YolodeployError:
            raise
        except Exception as error:  # noqa: BLE001 - a driver may fail in any way
            self._writable = False
            self._warn_failed("written", error, "New results stay on this machine")

    def _warn_failed(self, done: str, error: Exception, outcome: str) -> None:
        name, reason = self.address.display, self.address.explain(error)
        self.console.warn(f"{name} cannot be {done}: {reason}. {outcome}.")


def _key(id_: str) -> str:
    return f"objects/{id_[:2]}/{id_}.tar"


def shared_store(
    url: str | None,
    console: Console,
    locked: Mapping[str, str],
    own: Path,
    reserved: Collection[str] = (),
) -> SharedStore | None:
    """Open the shared store that --store names, or YOLODEPLOY_STORE if `url` is None; an empty URL means none.

    Raises RecipeError for a URL that names no folder, or the store `own` of this machine.
    """
    option = VARIABLE if url is None else "--store"
    url = os.environ.get(VARIABLE, "") if url is None else url
    if not url:
        return None
    address = Address(url, option)
    storage = storage_at(address)
    if isinstance(storage, Folder) and storage.root.resolve() == own.resolve():
        raise RecipeError(
            f"{option} {address.display}: this is the store of this machine. Name another folder."
        )
    return SharedStore(address, storage, console, locked, reserved)


def storage_at(address: Address) -> Storage:
    """Choose how to reach the folder at an address."""
    if address.scheme == "file":
        return Folder(address.path)
    from yolodeploy.store.remote.object_store import ObjectStore

    return ObjectStore(address)
