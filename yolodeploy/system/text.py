"""Show values and paths in messages."""

from __future__ import annotations

import re
from pathlib import Path

# Marks that turn the direction of what follows: in a name they would turn the figures behind it.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_MAX_PATH = 1000


def quotable(value: object, max_length: int = 60) -> str:
    """Quote a value in a message: its beginning, on one line, without characters that control a terminal."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value)[: max_length + 1])
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def one_line(text: object) -> str:
    """Show a path on one line."""
    return str(text).replace("\n", "\\n")


def straight(text: str) -> str:
    """Text for a page, with a replacement character for each mark that would turn its direction."""
    return _TURNS.sub("\ufffd", text)


def shortened(name: str, width: int) -> str:
    """A name without its middle if it is too long: names of one model begin alike, those for one device end alike."""
    if len(name) <= width:
        return name
    tail = (width - 3) * 2 // 3
    return f"{name[: width - 3 - tail]}...{name[-tail:]}"


def shown(path: Path) -> str:
    """Show a path in a message: relative to the current folder if it lies below it; a link by its own name."""
    try:
        whole = path.name in ("", "..")
        place = path.resolve() if whole else path.parent.resolve() / path.name
        text = str(place.relative_to(Path.cwd()))
    except (ValueError, OSError, RuntimeError):  # RuntimeError: a link to itself
        text = str(path)
    text = one_line(text)
    return text if len(text) <= _MAX_PATH else f"{text[:100]}...{text[-100:]}"
