"""A small file of plain data by key, which may be lost or damaged at any time without harm."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from yolodeploy.system.files import replace_file


class Memo:
    """Plain data by key in one file, whose first line is the digest of the rest.

    A file that cannot be read or written, or does not have its digest, only costs time.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._known, self._changed = file, _read(file), False

    def get(self, key: str) -> Any:
        """What was kept under a key; None if nothing was."""
        return self._known.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value, which must be what JSON can hold, until `save` writes it."""
        if self._known.get(key) != value:
            self._known[key] = value
            self._changed = True

    def reload(self) -> None:
        """Take over what another process has kept meanwhile."""
        self._known = {**_read(self._file), **self._known}

    def save(self) -> None:
        """Write the file, if anything is new, in one atomic step."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):  # a read-only cache folder must not stop a plan
            self._file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._known)
            replace_file(self._file, f"{_digest(text)}\n{text}".encode())
            self._changed = False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
        raw = json.loads(text) if digest == _digest(text) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
