"""Finds the parts in which two artifacts differ.

A plugin may define `parts(artifact)` beside the members of `yolodeploy.backend.Backend`. Other files are
compared here: JSON by key, safetensors and .npz by tensor, text by line.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yolodeploy.backend import Artifact, Backend, Parted, Parts, content
from yolodeploy.system import file_digest, tree_files

MAX_LINES = 12
_MAX_VALUE = 40
_TEXT = frozenset({".csv", ".md", ".param", ".txt", ".xml", ".yaml"})


def differing(backend: Backend, locked: Artifact, built: Artifact) -> list[str]:
    """Lines that say which files and parts of two artifacts differ; [] if none do."""
    before, after = tree_files(locked.path), tree_files(built.path)
    lines = [f"{name}: not built" for name in before if name not in after]
    lines += [
        f"{name}: built, but not in the locked result" for name in after if name not in before
    ]
    common = [name for name in before if name in after]
    changed = [n for n in common if file_digest(before[n]) != file_digest(after[n])]
    if changed:
        old, new = _plugin_parts(backend, locked), _plugin_parts(backend, built)
        for name in changed:
            lines += _changes(
                name,
                old[name] if name in old else _common_parts(before[name]),
                new[name] if name in new else _common_parts(after[name]),
            )
    more = len(lines) - MAX_LINES
    return lines if more <= 0 else [*lines[:MAX_LINES], f"... and {more} more"]


def _plugin_parts(backend: Backend, artifact: Artifact) -> Mapping[str, Parts]:
    return backend.parts(artifact) if isinstance(backend, Parted) else {}


def _changes(name: str, old: Parts, new: Parts) -> list[str]:
    """How the parts of a file changed."""
    lines = [f"{name}: {part} is gone" for part in old if part not in new]
    lines += [f"{name}: {part} is new" for part in new if part not in old]
    for part in old:
        if part in new and old[part] != new[part]:
            short = max(len(old[part]), len(new[part])) <= _MAX_VALUE
            change = f"was {old[part]}, is {new[part]}" if short else "differs"
            lines.append(f"{name}: {part} {change}")
    return lines or [f"{name}: every part is the same, but not their order or layout"]


def _common_parts(file: Path) -> Parts:
    """The parts of a file of a common format; its complete content if it has another format."""
    data = file.read_bytes()
    try:
        if file.suffix == ".json":
            return dict(_leaves(json.loads(data)))
        if file.suffix == ".safetensors":
            return dict(_tensors(data))
        if file.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return {entry: content(archive.read(entry)) for entry in archive.namelist()}
        if file.suffix in _TEXT:
            lines = data.decode("utf-8").splitlines()
            return {f"line {number}": line for number, line in enumerate(lines, 1)}
    except (ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile):
        return {"content": content(data)}  # not of the format that its name says
    return {"content": content(data)}


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of plain data by their path (`a.b.0`), as text."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, f"{at}.{key}" if at else str(key))
    else:
        yield at or "value", json.dumps(value, ensure_ascii=False)


def _tensors(data: bytes) -> Iterator[tuple[str, str]]:
    """Tensors of a safetensors file: u64 length of a JSON header, the header, the data.

    Format: https://huggingface.co/docs/safetensors (a tensor has `dtype`, `shape`, `data_offsets`).
    """
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            yield from _leaves(entry, "metadata")
            continue
        first, end = entry["data_offsets"]
        kind = f"{entry['dtype']} {entry['shape']}"
        yield name, f"{kind} {content(data[start + first : start + end])}"
