"""Artifacts taken apart, to say where two that should be the same differ.

A plugin may define `parts(artifact)` beside the members of `yolodeploy.backend.Backend`; what it
leaves out is taken apart here: JSON by key, safetensors and .npz by tensor, text by line.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from yolodeploy.backend import Artifact, Backend
from yolodeploy.digest import file_digest, tree_files

Parts = Mapping[str, str]
MOST_LINES = 12
_LONGEST = 40
_TEXT = frozenset({".csv", ".md", ".param", ".txt", ".xml", ".yaml"})


@runtime_checkable
class Parted(Protocol):
    """A plugin that takes its artifacts apart."""

    def parts(self, artifact: Artifact) -> Mapping[str, Parts]:
        """Parts of files by relative path: of each part (op, weight, field) its content or digest."""
        ...


def content(data: bytes) -> str:
    """What stands for a part's bytes."""
    return f"sha256 {hashlib.sha256(data).hexdigest()}"


def flat(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of plain data by their place (`a.b.0`), as text."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from flat(item, f"{at}.{key}" if at else str(key))
    else:
        yield at or "value", json.dumps(value, ensure_ascii=False)


def differing(backend: Backend, locked: Artifact, built: Artifact) -> list[str]:
    """Lines that say which files and parts of two artifacts differ; [] if none do."""
    before, after = tree_files(locked.path), tree_files(built.path)
    lines = [f"{name}: not built" for name in before if name not in after]
    lines += [
        f"{name}: built, but not in the locked result" for name in after if name not in before
    ]
    changed = [
        name
        for name in before
        if name in after and file_digest(before[name]) != file_digest(after[name])
    ]
    if changed:
        old, new = _own(backend, locked), _own(backend, built)
        for name in changed:
            lines += _compared(
                name,
                old[name] if name in old else _generic(before[name]),
                new[name] if name in new else _generic(after[name]),
            )
    return shortened(lines)


def shortened(lines: list[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"... and {more} more"]


def _own(backend: Backend, artifact: Artifact) -> Mapping[str, Parts]:
    return backend.parts(artifact) if isinstance(backend, Parted) else {}


def _compared(name: str, old: Parts, new: Parts) -> list[str]:
    lines = [f"{name}: {part} is gone" for part in old if part not in new]
    lines += [f"{name}: {part} is new" for part in new if part not in old]
    lines += [
        f"{name}: {part} {_change(old[part], new[part])}"
        for part in old
        if part in new and old[part] != new[part]
    ]
    return lines or [f"{name}: every part is the same, but not their order or layout"]


def _change(old: str, new: str) -> str:
    if max(len(old), len(new)) <= _LONGEST:
        return f"was {old}, is {new}"
    return "differs"


def _generic(file: Path) -> Parts:
    """Parts of a file of a common format; the whole file where it is of no such format."""
    data = file.read_bytes()
    try:
        if file.suffix == ".json":
            return dict(flat(json.loads(data)))
        if file.suffix == ".safetensors":
            return dict(_tensors(data))
        if file.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return {entry: content(archive.read(entry)) for entry in archive.namelist()}
        if file.suffix in _TEXT:
            lines = data.decode("utf-8").splitlines()
            return {f"line {number}": line for number, line in enumerate(lines, 1)}
    except (ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile):
        return {"content": content(data)}  # not what its name says
    return {"content": content(data)}


def _tensors(data: bytes) -> Iterator[tuple[str, str]]:
    """Tensors of a safetensors file: u64 length of a JSON header, the header, the data.

    Format: https://huggingface.co/docs/safetensors (a tensor has `dtype`, `shape`, `data_offsets`).
    """
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            yield from flat(entry, "metadata")
            continue
        first, end = entry["data_offsets"]
        kind = f"{entry['dtype']} {entry['shape']}"
        yield name, f"{kind} {content(data[start + first : start + end])}"
