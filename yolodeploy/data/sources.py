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
        yield from _below(folder, source)


def _below(folder: Path, source: str) -> Iterator[Path]:
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
    text = "" if root is None else str(root)
    if is_elsewhere(source):
        wrong, what = f"{at}: `{split}: {quotable(source, 200)}`", "is a path of another machine."
        return f"{wrong} {what} {_remedy(split, source, home, text)}"
    if is_elsewhere(text):
        wrong = f"{document.where(('path',))}: `path: {quotable(root, 200)}`"
        return f"{wrong} is a path of another machine. {_root_remedy(source, home, text)}"
    places = ", ".join(dict.fromkeys(map(_normal, tried)))
    hint = ""
    if root is not None:
        hint = (
            " Ultralytics also looks in the `datasets_dir` of its settings, which yolodeploy does not read: "
            "write `path:` relative to the data.yaml."
        )
    return f"{at}: `{split}: {quotable(source, 200)}` does not exist. Tried: {places}.{hint}"


def _remedy(split: str, source: str, home: Path, root: str) -> str:
    """What to write for a split that names a place of another machine."""
    lost = is_elsewhere(root)
    ends = (relative_remedy(source, folder) for folder in ([home] if lost else _roots(home, root)))
    end = next(filter(None, ends), None)
    if end:
        return f"Write: {'`path: .` and ' * lost}`{split}: {end}`"
    if lost:
        return f"Set `path` and `{split}` to folders that are here: `path` relative to this file, `{split}` to `path`."
    return f"Set `{split}` to the place of the images here, relative to {'`path`' if root else 'this file'}."


def _root_remedy(source: str, home: Path, root: str) -> str:
    """What to write for a `path` of another machine: the end of it that has the split here."""
    for end in (".", *_ends(root)):
        if any(os.path.exists(place) for place in _below(home / end, source)):  # noqa: PTH110
            return f"Write: `path: {one_line(end)}`"
    folder = quotable(source.replace("\\", "/"), 200)
    return f"Set `path` to the folder here that holds `{folder}`, relative to this file."


def _normal(place: Path) -> str:
    return shown(Path(os.path.normpath(place)))


def is_elsewhere(path: str) -> bool:
    """Whether a path that does not exist is one of another machine: absolute, and its folder is not here either."""
    if _WINDOWS.match(path):
        return True
    return path.startswith("/") and not os.path.exists(os.path.dirname(path.rstrip("/")))  # noqa: PTH110, PTH120


def relative_remedy(path: str, home: Path) -> str | None:
    """The longest end of an absolute path of another machine that exists below `home`, to write instead."""
    there = (end for end in _ends(path) if os.path.exists(home / end))  # noqa: PTH110
    return next(map(one_line, there), None)


def _ends(path: str) -> Iterator[str]:
    """`./a/b/c`, `./b/c` and `./c` for `/a/b/c`."""
    parts = (PureWindowsPath(path) if _WINDOWS.match(path) else PurePosixPath(path)).parts[1:]
    for start in range(len(parts)):
        yield "/".join((".", *parts[start:]))
