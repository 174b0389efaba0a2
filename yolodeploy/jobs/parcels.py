"""Objects of a store as bytes, for machines that share no folder: the archives of a shared store, verified on arrival."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from yolodeploy.errors import StoreProblem
from yolodeploy.store import Entry, Store
from yolodeploy.store.remote import BadArchive, pack, read_head, unpack
from yolodeploy.system import tree_digest

_ID = re.compile("[0-9a-f]{64}")
_MEMO = "memo"  # steps of which an object is of use only where it was made


def pack_objects(store: Store, ids: Iterable[str]) -> list[bytes]:
    """The archives of objects, as far as they are there."""
    found = []
    for id_ in ids:
        stored = store.find(id_)
        if stored is None or stored.meta.step == _MEMO:
            continue
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "archive")
            try:
                pack(stored.meta, stored.path, file)
            except ValueError as error:
                raise StoreProblem(f"`{stored.meta.step}` cannot be sent: {error}.") from None
            found.append(file.read_bytes())
    return found


def unpack_objects(store: Store, archives: Iterable[bytes]) -> None:
    """Put objects into a store; raises StoreProblem for an archive that is damaged or not one of ours."""
    for archive in archives:
        try:
            _unpack(store, archive)
        except BadArchive as error:
            raise StoreProblem(f"a result that another machine sent {error}. Run again.") from None


def _unpack(store: Store, archive: bytes) -> None:
    head = read_head(BytesIO(archive))
    if not _ID.fullmatch(head.id):
        raise BadArchive("has an impossible id")

    def make(work: Path) -> Path:
        data = work / "data"
        data.mkdir()
        meta = unpack(BytesIO(archive), data)
        if tree_digest(data) != meta.digest:
            raise BadArchive("does not match its own digest")
        return data

    store.obtain(Entry(head.id, head.step, head.format), make)
