"""Whether an installed distribution is a folder that somebody works in: then its version says little of its code."""

from __future__ import annotations

import importlib.metadata
import json
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from yolodeploy.backend import code_files
from yolodeploy.system import digest_of, file_digest


@cache  # every step asks for the versions
def edited(name: str) -> dict[str, str]:
    """The digest of the code of an editable installation, as a version of its own; nothing of an ordinary one.

    Raises ModelError or OSError if the code cannot be read.
    """
    folder = _folder(name)
    if folder is None:
        return {}
    digests = {file: file_digest(path) for file, path in code_files(folder).items()}
    return {f"{name} (edited)": digest_of(digests)}


def _folder(name: str) -> Path | None:
    """The project folder of an editable installation (PEP 610)."""
    try:
        text = importlib.metadata.distribution(name).read_text("direct_url.json")
        record = json.loads(text or "{}")
        editable = record.get("dir_info", {}).get("editable")
        return Path(url2pathname(urlsplit(record["url"]).path)) if editable else None
    except (importlib.metadata.PackageNotFoundError, ValueError, KeyError, AttributeError):
        return None
