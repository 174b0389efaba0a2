"""Finds bundles: one by itself, or those of a folder; and explains a path that is neither."""

from __future__ import annotations

import os
from pathlib import Path

from yolodeploy.backend import MANIFEST
from yolodeploy.system import is_folder, shown


def bundles_in(folder: Path) -> list[Path]:
    """What lies in a folder of bundles, bundle or not, by name; nothing if the folder is a bundle itself or holds none.

    Hidden names are left out: `deploy` works in them.
    """
    if os.path.lexists(folder / MANIFEST):
        return []
    try:
        found = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError:
        return []
    return found if any(os.path.lexists(each / MANIFEST) for each in found) else []


def why_no_bundle(path: Path, allowed: str) -> str | None:
    """Why a path cannot be a bundle, and what may be named instead; None if it has a manifest."""
    if os.path.lexists(path / MANIFEST):
        return None
    if inner := [each for each in bundles_in(path) if os.path.lexists(each / MANIFEST)]:
        return f"{shown(path)} is a folder of bundles. Name one of them, such as {shown(inner[0])}."
    if is_folder(path):
        reason = f"is not a bundle: neither it nor a folder in it has a {MANIFEST}"
    else:
        reason = "is a file, not a bundle" if os.path.lexists(path) else "does not exist"
    return f"{shown(path)} {reason}. Name {allowed}."
