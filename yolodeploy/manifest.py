"""The documents of a bundle: their names, how they are written and read, and the id of what a bundle was made of.

Imports next to nothing.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy import reading
from yolodeploy.digest import digest_of

MANIFEST, PLAN, REPORT = "manifest.json", "plan.json", "report.json"
BILL, PROVENANCE, SIGNATURE = "bom.cdx.json", "provenance.json", "provenance.dsse.json"
_OWN = {MANIFEST, PLAN, REPORT, BILL, PROVENANCE, SIGNATURE}
CONTRACT, LABELS = "contract.json", "labels.txt"  # what an app reads beside the artifact
APP_FILES = (CONTRACT, LABELS)
# Names at the top of a bundle, which no artifact may use for a file of its own.
RESERVED = frozenset({*_OWN, *APP_FILES, "golden", "report.html"})
_GOLDEN = re.compile(r"golden/(detections\.json|(in|out)put\.npy|image\.[a-z]{3,4})")
_REVISION = 4
_MOST_BYTES = 8 << 20
_MOST_FILES, _LONGEST_NAME, _DEEPEST = 10_000, 1_000, 32


@dataclass(frozen=True)
class Manifest:
    """The bundle's id, and the sha256 of every file but the manifest by relative POSIX path."""

    id: str
    files: Mapping[str, str]


def is_artifact(name: str) -> bool:
    """Whether a file of a bundle, by relative POSIX path, is the artifact's and not one that the bundle adds."""
    return name.split("/", maxsplit=1)[0] not in RESERVED


def is_known(name: str) -> bool:
    """Whether a bundle has room for a file of this name: one of the artifact's, or of its own."""
    own = name in RESERVED and name != "golden"
    return own or is_artifact(name) or bool(_GOLDEN.fullmatch(name))


def is_subject(name: str) -> bool:
    """Whether the provenance vouches for a file; it cannot for itself, nor for what is written after it."""
    return name not in (PROVENANCE, SIGNATURE, MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """Raises ValueError with the reason if there is none that can be read, and OSError."""
    raw = read_json(folder / MANIFEST)
    files = raw.get("files")
    if not isinstance(raw.get("id"), str) or not isinstance(files, dict):
        raise ValueError("it has no `id`, or no `files` with their digests")  # noqa: TRY004 - of its text
    if len(files) > _MOST_FILES or any(map(_is_odd, files)):
        raise ValueError(f"it lists more than {_MOST_FILES:,} files, or one of an endless name")
    return Manifest(raw["id"], {name: str(digest) for name, digest in files.items()})


def _is_odd(name: str) -> bool:
    return len(name) > _LONGEST_NAME or name.count("/") > _DEEPEST


def encoded(value: object) -> bytes:
    """Plain data as the JSON of bundles: indented by one, no NaN."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(file: Path, *, links: bool = False) -> dict[str, Any]:
    """A JSON object; raises ValueError with the reason, and OSError. `links` to files may be followed."""
    if not links and not stat.S_ISREG(file.lstat().st_mode):
        raise ValueError("it is a link or a device, not a file")
    try:
        raw = json.loads(reading.read(file, _MOST_BYTES).decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(raw, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of the file's text
    return raw


def identify(plan: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The id of a bundle: the digest of its plan and of what its report says of bytes and figures.

    Raises KeyError if either lacks a part.
    """
    return digest_of(
        {
            "revision": _REVISION,
            "name": report["name"],
            "plan": plan,
            "target": report["target"],
            "versions": report["versions"],
            "artifact": report["artifact"]["digest"],
            "evidence": report["evidence"],
            "chain": report["chain"],
            "checks": report["checks"],
        }
    )
