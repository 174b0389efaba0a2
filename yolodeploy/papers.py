"""What goes with a bundle besides what an app reads: provenance, bill of materials, signature, manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.digest import file_digest, tree_files
from yolodeploy.manifest import MANIFEST, PROVENANCE, SIGNATURE, encoded, read_json

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


def write_json(path: Path, value: object) -> None:
    """Write plain data as a document of a bundle."""
    path.write_bytes(encoded(value))


def digests(folder: Path) -> dict[str, str]:
    """Digests of all files of a bundle but the manifest, by relative POSIX path."""
    found = tree_files(folder)
    return {name: file_digest(path) for name, path in found.items() if name != MANIFEST}


def seal(folder: Path, id_: str, signer: CryptoSigner | None) -> None:
    """Sign the provenance, if there is something to sign with, and write the manifest of a bundle."""
    if signer is not None:
        from yolodeploy.signing import envelope

        payload = (folder / PROVENANCE).read_bytes()
        write_json(folder / SIGNATURE, envelope(payload, signer))
    write_json(folder / MANIFEST, {"id": id_, "files": digests(folder)})


def signers(folder: Path) -> list[str]:
    """Ids of the keys that the signature of a bundle names; none where there is none to be read."""
    from yolodeploy.signing import key_ids

    try:
        return key_ids(read_json(folder / SIGNATURE))
    except (OSError, ValueError):
        return []
