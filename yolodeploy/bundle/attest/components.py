"""The tools that made a bundle: versions, package URLs, and digests of what was installed.

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
    """A tool. `record` is the sha256 of the installed wheel's file list, None if it has none."""

    name: str
    version: str
    purl: str
    record: str | None


def installed_tools(versions: Mapping[str, Mapping[str, str]]) -> list[Tool]:
    """The tools in a plan's versions by backend, each once, sorted by name."""
    found = {pair for tools in versions.values() for pair in tools.items()}
    return [find_tool(name, version) for name, version in sorted(found) if version != "missing"]


def find_tool(name: str, version: str) -> Tool:
    """One tool, with a record if this version is an installed distribution."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    if distribution is None or distribution.version != version:
        return Tool(name, version, PackageURL("generic", None, name, version).to_string(), None)
    purl = PackageURL("pypi", None, name, version).to_string()
    return Tool(name, version, purl, _record(distribution))


def _record(distribution: importlib.metadata.Distribution) -> str | None:
    """The sha256 of the sorted rows of RECORD that came with the wheel: the same on every machine.

    That leaves out rows without a hash, of scripts (whose first line names an interpreter) and of files that the
    installer adds. An editable installation has no record.
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
