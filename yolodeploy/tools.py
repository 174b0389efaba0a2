"""The tools that a bundle was made with: versions, package URLs, and digests of what was installed.

A package URL is that of https://github.com/package-url/purl-spec; RECORD is that of
https://packaging.python.org/en/latest/specifications/recording-installed-packages/.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packageurl import PackageURL

_BY_INSTALLER = ("/INSTALLER", "/RECORD", "/REQUESTED", "/direct_url.json")


@dataclass(frozen=True)
class Tool:
    """A tool. `record` is the sha256 of the installed wheel's file list, None where there is none."""

    name: str
    version: str
    purl: str
    record: str | None


def tools(versions: Mapping[str, Mapping[str, str]]) -> list[Tool]:
    """The tools of a plan's versions by backend, each once, in order of their names."""
    found = {pair for tools_ in versions.values() for pair in tools_.items()}
    return [tool(name, version) for name, version in sorted(found) if version != "missing"]


def tool(name: str, version: str) -> Tool:
    """One tool; what is not an installed distribution of this version has no record."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    if distribution is None or distribution.version != version:
        return Tool(name, version, PackageURL("generic", None, name, version).to_string(), None)
    purl = PackageURL("pypi", None, name, version).to_string()
    return Tool(name, version, purl, _record(distribution))


def _record(distribution: importlib.metadata.Distribution) -> str | None:
    """Sha256 of the sorted rows of RECORD that the wheel brought: the same on every machine.

    Rows without a hash, those of scripts (their first line names an interpreter) and those
    that the installer adds are left out. An editable installation has no files to speak of.
    """
    text = distribution.read_text("RECORD")
    if text is None or _editable(distribution):
        return None
    rows = sorted(_rows(text))
    return hashlib.sha256("".join(f"{row}\n" for row in rows).encode()).hexdigest()


def _rows(text: str) -> Iterator[str]:
    for row in filter(None, csv.reader(text.splitlines())):
        path, hashed = row[0], len(row) == 3 and row[1]
        added = ".dist-info/" in path and path.endswith(_BY_INSTALLER)
        if hashed and not added and not path.startswith(("..", "/")):
            yield ",".join(row)


def _editable(distribution: importlib.metadata.Distribution) -> bool:
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return True
