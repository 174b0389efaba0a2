"""Where the images of a split are: folders, linked folders and lists, by the rules of Ultralytics 8.x.

Other files among the images are left out and counted, by suffix or as hidden.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from yolodeploy.data.decoding import HEIF_SUFFIXES, heif_library
from yolodeploy.data.sources import find_source, is_elsewhere, relative_remedy, spellings
from yolodeploy.errors import DataError
from yolodeploy.recipe import AllowedPaths, Document, Position, suggestion
from yolodeploy.system import quotable, read_plain, shown

SUFFIXES = frozenset(  # Ultralytics' IMG_FORMATS
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)  # fmt: skip
SPLITS = ("train", "val", "test")
_LIST_BYTES = 16 << 20
_OWN = frozenset({".cache", ".npy", ".txt"})  # of the trainer: never meant as images
_READ_BY = dict.fromkeys(HEIF_SUFFIXES, ", which yolodeploy[heif] reads")
HIDDEN, LINKED, BARE = "hidden", "in a folder that is linked twice", "without a suffix"
TWICE = "listed twice"


@dataclass
class Found:
    """The images of a split by absolute path, and the files that were left out, each with the reason.

    `again` says how often an image was met once more, by reason.
    """

    images: set[Path] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    again: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def offer(self, path: str, *, listed: bool = False) -> None:
        """Take a file if it is an image. A list may name hidden images, but none of macOS' `._` files."""
        name = os.path.basename(path)  # noqa: PTH119 - thousands of times
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
        if name.startswith("._" if listed else "."):
            self.skipped[path] = HIDDEN
        elif suffix in SUFFIXES and (suffix not in HEIF_SUFFIXES or heif_library()):
            image = Path(path)
            self.again[TWICE] += image in self.images
            self.images.add(image)
        elif listed or suffix not in _OWN:
            self.skipped[path] = quotable(suffix, 12) or BARE

    def reasons(self) -> tuple[tuple[str, int], ...]:
        """How many files were left out for which reason, the most frequent first."""
        counted = Counter(self.skipped.values()) + self.again
        return tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def find_images(document: Document, split: str, allowed: AllowedPaths | None) -> Found:
    """Find the images of a split.

    Raises DataError if there is none or a place cannot be used, and PlanRefused if `allowed` is given and a
    place lies outside it.
    """
    raw = document.value if isinstance(document.value, dict) else {}
    key = "validation" if split == "val" and not raw.get("val") and raw.get("validation") else split
    at = document.where((key,) if raw.get(key) else ())
    if not raw.get(key):
        known = [name for name in SPLITS if raw.get(name)]
        raise DataError(f"{at}: there is no split `{split}`.{suggestion(split, known)}")
    found = Found()
    for source in raw[key] if isinstance(raw[key], list) else [raw[key]]:
        place = find_source(document, key, str(source), allowed)
        if os.path.isdir(place):  # noqa: PTH112 - unlike Path's, it takes any text
            walk(place, found, allowed, at, split)
        elif place.suffix == ".txt":
            _read_list(place, found, at, split)
        else:
            raise DataError(
                f"{at}: `{split}` must be a folder or a .txt list of images, but {shown(place)} is neither"
            )
    if not found.images and not found.faults:
        raise DataError(
            f"{at}: `{split}` has no images ({', '.join(sorted(SUFFIXES))}){skipped_text(found.reasons())}"
        )
    return found


def skipped_text(reasons: Iterable[tuple[str, int]]) -> str:
    """`; 5 files skipped (3 .gif, 2 hidden)`; empty if nothing was left out."""
    parts = [f"{count} {reason}{_READ_BY.get(reason, '')}" for reason, count in reasons]
    total = sum(count for _, count in reasons)
    more = [*parts[:5], "..."] if len(parts) > 6 else parts
    return f"; {total} file{'s' * (total != 1)} skipped ({', '.join(more)})" if parts else ""


def walk(top: Path, found: Found, allowed: AllowedPaths | None, at: Position, split: str) -> None:
    """Collect the images below a folder; linked folders come last, and no folder is entered twice.

    Labels are found by the path through the link, so that is the path of an image below it.
    """
    folders, links, entered = (
        [(str(top), os.path.realpath(top))],
        list[tuple[str, str]](),
        set[str](),
    )
    count_below = functools.cache(_images_below)
    while folders or links:
        path, real = folders.pop() if folders else links.pop()
        if real in entered:
            found.again[LINKED] += count_below(real)
            continue
        entered.add(real)
        deeper: list[tuple[str, str]] = []
        for entry in _entries(path, at, split):
            if not is_folder(entry):
                found.offer(entry.path)
            elif entry.name.startswith("."):
                found.skipped[entry.path] = HIDDEN
            elif entry.is_symlink():
                links.append((entry.path, _target(entry, real, allowed, at, split)))
            else:
                deeper.append((entry.path, os.path.join(real, entry.name)))  # noqa: PTH118
        folders += reversed(deeper)
        links.sort(reverse=True)


def _entries(folder: str, at: Position, split: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{at}: `{split}` has the folder {shown(Path(folder))}, which cannot be read: {error.strerror}"
        ) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _images_below(folder: str) -> int:
    """The images of a folder and the folders in it, without those that links lead to."""
    found = Found()
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            found.offer(os.path.join(path, name))  # noqa: PTH118
    return len(found.images)


def _target(
    entry: os.DirEntry[str], parent: str, allowed: AllowedPaths | None, at: Position, split: str
) -> str:
    """Where a linked folder really is; DataError for a loop, PlanRefused if it may not be read."""
    real = os.path.realpath(entry.path)
    if Path(parent).is_relative_to(real):
        raise DataError(
            f"{at}: `{split}` has the link {_below(entry.path)}, which leads back to {shown(Path(real))}, "
            "a folder above it: a loop without end. Remove the link."
        )
    if allowed:
        allowed.require(Path(real), at, f"`{split}` has the link {_below(entry.path)} to a folder:")
    return real


def _below(link: str) -> str:
    """Show the path of a link, not of what it leads to."""
    return quotable(link.removeprefix(f"{Path.cwd().resolve()}/"), 300)


def _read_list(source: Path, found: Found, at: Position, split: str) -> None:
    try:
        lines = read_plain(source, _LIST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
        raise DataError(
            f"{at}: `{split}` names {shown(source)}, which is not a text file of image paths{reason}"
        ) from None
    if any("\0" in line for line in lines):
        raise DataError(f"{at}: `{split}` names {shown(source)}, which holds NUL characters")
    for number, line in enumerate(map(str.strip, lines), 1):
        if line:
            image = _listed(source, line)
            if image is None and is_elsewhere(line):
                found.faults.append(f"{shown(source)}:{number}: {_elsewhere(source, line)}")
            else:
                found.offer(_normal(image or str(source.parent / line)), listed=True)


def _normal(path: str) -> str:
    """A path without `..`, unless that would lead elsewhere, as after a link."""
    normal = os.path.normpath(path)
    if ".." not in path or os.path.realpath(normal) == os.path.realpath(path):
        return normal
    return path


def _listed(source: Path, line: str) -> str | None:
    """The absolute path that a line means; None if there is no such file.

    Lines are relative to the list's folder, or else to the current folder, where Ultralytics looks for those
    without `./`. A backslash separates folders if no file has it in its name.
    """
    for text in spellings(line):
        for folder in (source.parent, Path.cwd()):
            path = str(folder / text)
            if os.path.lexists(path):
                return path
    return None


def _elsewhere(source: Path, line: str) -> str:
    end = relative_remedy(line, source.parent)
    remedy = f"Write: {end}" if end else "Write where the image is here, relative to the list."
    return f"`{quotable(line, 200)}` is a path of another machine. {remedy}"
