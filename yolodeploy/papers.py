"""What goes with a bundle besides what an app reads: provenance, bill of materials, signature, manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.digest import file_digest, tree_files
from yolodeploy.manifest import MANIFEST, PROVENANCE, SIGNATURE, read_json, read_manifest

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


def write_json(path: Path, value: object) -> None:
    """Write plain data as the JSON of bundles: indented by one, no NaN."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


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


def is_current(folder: Path, id_: str) -> bool:
    """Whether the folder holds the bundle with this id, every byte as it was written."""
    try:
        manifest = read_manifest(folder)
        return manifest.id == id_ and manifest.files == digests(folder)
    except (OSError, ValueError):
        return False


def is_signed_with(folder: Path, id_: str, signer: CryptoSigner) -> bool:
    """Whether this signer vouched for the bundle with this id, and for every byte of it."""
    from yolodeploy.provenance import disagreements
    from yolodeploy.signing import payload_of, require_signature

    try:
        value, text = read_json(folder / SIGNATURE), (folder / PROVENANCE).read_bytes()
        require_signature(value, signer.public_key)
        faults = list(disagreements(read_json(folder / PROVENANCE), digests(folder), id_))
        return payload_of(value) == text and not faults
    except (OSError, ValueError):
        return False


def signers(folder: Path) -> list[str]:
    """Ids of the keys that the signature of a bundle names; none where there is none to be read."""
    from yolodeploy.signing import key_ids

    try:
        return key_ids(read_json(folder / SIGNATURE))
    except (OSError, ValueError):
        return []
