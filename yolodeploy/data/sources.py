"""The place that a split of a data.yaml means: which paths are tried, in which order.

As Ultralytics 8.x: below `path`, which may be missing, and once more without a leading `../`, as the layout of
Roboflow needs. Two differences: a relative `path` is looked up beside the data.yaml first, then in the current
folder, and never in the `datasets_dir` of Ultralytics' settings, which differ from machine to machine; and
backslashes separate folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths, Document
from yolodeploy.system import one_line, quotable, shown

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def find_source(document: Document, split: str, source: str, allowed: AllowedPaths | None) -> Path:
    """Find the folder or list that `source` means, links resolved.

    Raises DataError with every place that was tried if there is none, and PlanRefused if `allowed` is given
    and the first place that exists lies outside it.
    """
    at, root = document.where((split,)), document.value.get("path")
    if re.search(r"[\0\n]", f"{root}{source}"):
        raise DataError(f"{at}: `{split}` holds a NUL character or a line break")
    home = Path(os.path.abspath(document.file)).parent  # noqa: PTH100 - keeps links
    tried: list[Path] = []
    for place in _places(home, "" if root is None else str(root), source):
        if os.path.exists(place):  # noqa: PTH110 - unlike Path's, it takes any text
            if allowed:
                allowed.require(place, at, f"`{split}`:")
            return Path(os.path.realpath(place))
        if place not in tried:
            tried.append(place)
    raise DataError(_not_found(document, split, source, home, tried))


def _places(home: Path, root: str, source: str) -> Iterator[Path]:
    for folder in _roots(home, root):
        for text in spellings(source):
            yield folder / text
            if text.startswith("../"):
                yield folder / text[3:]


def _roots(home: Path, root: str) -> Iterator[Path]:
    for text in spellings(root):
        yield home / text
        if text and not text.startswith("/"):
            yield Path.cwd() / text
            if PurePosixPath(text).name == home.name:
                yield home  # Ultralytics' own data.yaml files give the name of their folder


def spellings(text: str) -> Iterator[str]:
    """A path as it stands, and with the backslashes of a relative Windows path as slashes."""
    yield text
    if "\\" in text and not _WINDOWS.match(text):
        yield text.replace("\\", "/")


def _not_found(document: Document, split: str, source: str, home: Path, tried: list[Path]) -> str:
    at, root = document.where((split,)), document.value.get("path")
    if is_elsewhere(source):
        line = f"{split}: {relative_remedy(source, home) or './images/val'}"
        return f"{at}: `{split}: {quotable(source, 200)}` is a path of another machine. Write: `{line}`"
    if root is not None and is_elsewhere(str(root)):
        here = os.path.exists(home / source)  # noqa: PTH110
        line = "path: ." if here else "path: the folder, relative to this file"
        where = document.where(("path",))
        return (
            f"{where}: `path: {quotable(root, 200)}` is a path of another machine. Write: `{line}`"
        )
    places = ", ".join(dict.fromkeys(map(_normal, tried)))
    hint = ""
    if root is not None:
        hint = (
            " Ultralytics also looks in the `datasets_dir` of its settings, which yolodeploy does not read: "
            "write `path:` relative to the data.yaml."
        )
    return f"{at}: `{split}: {quotable(source, 200)}` does not exist. Tried: {places}.{hint}"


def _normal(place: Path) -> str:
    return shown(Path(os.path.normpath(place)))


def is_elsewhere(path: str) -> bool:
    """Whether a path that does not exist is one of another machine: absolute, and its folder is not here either."""
    if _WINDOWS.match(path):
        return True
    return path.startswith("/") and not os.path.exists(os.path.dirname(path.rstrip("/")))  # noqa: PTH110, PTH120


def relative_remedy(path: str, home: Path) -> str | None:
    """The longest end of an absolute path of another machine that exists below `home`, to write instead."""
    parts = (PureWindowsPath(path) if _WINDOWS.match(path) else PurePosixPath(path)).parts[1:]
    for start in range(len(parts)):
        if os.path.exists(home.joinpath(*parts[start:])):  # noqa: PTH110
            return one_line("/".join((".", *parts[start:])))
    return None
