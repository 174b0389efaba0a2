"""Links that leave docs/: what they lead to becomes a page of the site, so that no link depends on a server.

A Markdown file becomes a page as it is, another text file a page with its content, a folder a page that lists it. The page of
`examples/apps/README.md` is `project/examples/apps/README.md`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from reference.text import code, table

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PREFIX = "project"
ALWAYS = ("CHANGELOG.md", "SECURITY.md")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#\s])")
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".swift": "swift", ".sh": "bash", ".kt": "kotlin"}
_PICTURES = {".png", ".svg", ".jpg"}


def outside_pages() -> tuple[dict[str, str], dict[str, Path]]:
    """The pages of what docs/ links to outside of itself, and the pictures that these show, by path in the site."""
    pages: dict[str, str] = {}
    pictures: dict[str, Path] = {}
    waiting = [ROOT / name for name in ALWAYS]
    for document in sorted(DOCS.rglob("*.md")):
        waiting += _targets(document.read_text(encoding="utf-8"), document.parent)
    while waiting:
        path = waiting.pop()
        place = _place(path)
        if path.suffix in _PICTURES:
            pictures[place] = path
        elif place not in pages:
            text = pages[place] = _content(path)
            waiting += _targets(text, path if path.is_dir() else path.parent)
    moved = {place: relinked(text, place, _original(place).parent) for place, text in pages.items()}
    return moved, pictures


def relinked(text: str, place: str, folder: Path) -> str:
    """The text of the page at `place`, written for `folder` of the project, with links as the site needs them."""

    def new(match: re.Match[str]) -> str:
        path = _resolved(match[1], folder)
        if path is None:
            return match[1]
        return os.path.relpath(_place(path), Path(place).parent)

    return _outside_fences(text, lambda part: _LINK.sub(new, part))


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    """Change a text except for its code blocks."""
    parts, last = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change(text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*parts, change(text[last:])])


def _targets(text: str, folder: Path) -> Iterator[Path]:
    """The files outside docs/ that a text in `folder` links to."""
    for target in _LINK.findall(_FENCE.sub("", text)):
        path = _resolved(target, folder)
        if path is not None and not path.is_relative_to(DOCS):
            yield path


def _resolved(target: str, folder: Path) -> Path | None:
    """The file of the project that a link in `folder` means; None for one that is not there, or elsewhere."""
    if "://" in target or target.startswith(("mailto:", "/")):
        return None
    path = (folder / target).resolve()
    return path if path.exists() and path.is_relative_to(ROOT) else None


def _place(path: Path) -> str:
    """Where the site has a file of the project."""
    if path.is_relative_to(DOCS):
        place = path.relative_to(DOCS).as_posix()
        return f"{place}/index.md" if path.is_dir() else place
    place = f"{PREFIX}/{path.relative_to(ROOT).as_posix()}"
    if path.is_dir():
        return f"{place}/index.md"
    return place if path.suffix in {".md", *_PICTURES} else f"{place}.md"


def _original(place: str) -> Path:
    return ROOT / place.removeprefix(f"{PREFIX}/")


def _content(path: Path) -> str:
    """The Markdown of the page of a file or folder."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        inside = sorted(each for each in path.iterdir() if each.name[0] not in "._")
        rows = [(f"[{each.name}]({each.name})",) for each in inside]
        return f"# {code(name)}\n\n" + table(("file",), rows)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return f"# {code(name)}\n\n```{_LANGUAGES.get(path.suffix, 'text')}\n{text}\n```\n"
