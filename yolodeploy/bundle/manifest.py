"""The manifest of a bundle: its id, the digests of its files, and which files it may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.backend import MANIFEST, PROVENANCE, RESERVED, SIGNATURE
from yolodeploy.system import digest_of, read_json

_GOLDEN = re.compile(
    r"golden/((detections|classes)\.json|(input|output|prototypes)\.npy|image\.[a-z]{3,4})"
)
_EVIDENCE = re.compile(r"evidence/[a-z0-9][a-z0-9._-]{0,69}\.json")
SETS = "evidence"  # the folder of the sets of evidence
_FOLDERS = {"golden", SETS}
_REVISION = 5
_MAX_FILES, _MAX_NAME, _MAX_DEPTH = 10_000, 1_000, 32


@dataclass(frozen=True)
class Manifest:
    """The bundle's id, and the sha256 of every file but the manifest by relative POSIX path."""

    id: str
    files: Mapping[str, str]


def is_artifact(name: str) -> bool:
    """Whether a file, by relative POSIX path, is the artifact's and not one that the bundle adds."""
    return name.split("/", maxsplit=1)[0] not in RESERVED


def is_known(name: str) -> bool:
    """Whether a bundle may have a file of this name: one of the artifact's, or one that it adds."""
    own = name in RESERVED and name not in _FOLDERS
    return own or is_artifact(name) or bool(_GOLDEN.fullmatch(name) or _EVIDENCE.fullmatch(name))


def set_names(names: Iterable[str]) -> list[str]:
    """Those of a bundle's files that are sets of evidence."""
    return sorted(name for name in names if name.startswith(f"{SETS}/"))


def is_subject(name: str) -> bool:
    """Whether the provenance lists a file: not itself, nor what is written after it."""
    return name not in (PROVENANCE, SIGNATURE, MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest; raises OSError, or ValueError with the reason if it is not valid."""
    raw = read_json(folder / MANIFEST)
    files = raw.get("files")
    if not isinstance(raw.get("id"), str) or not isinstance(files, dict):
        raise ValueError("it has no `id`, or no `files` with their digests")  # noqa: TRY004 - its text is wrong
    too_long = any(len(n) > _MAX_NAME or n.count("/") > _MAX_DEPTH for n in files)
    if len(files) > _MAX_FILES or too_long:
        raise ValueError(f"it lists more than {_MAX_FILES:,} files, or a name that is too long")
    return Manifest(raw["id"], {name: str(digest) for name, digest in files.items()})


def identify(plan: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The id of a bundle: the digest of its plan, and of the bytes and figures in its report.

    Raises KeyError if either is not complete.
    """
    return digest_of(
        {
            "revision": _REVISION,
            "name": report["name"],
            "plan": plan,
            "target": report["target"],
            "versions": report["versions"],
            "artifact": report["artifact"]["digest"],
            "measures": report["measures"],
            "evidence": report["evidence"],
            "chain": report["chain"],
            "checks": report["checks"],
        }
    )
