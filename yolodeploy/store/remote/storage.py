"""What a shared store needs of the folder that it lies in: three operations, and the folder's URL."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from yolodeploy.errors import RecipeError

SCHEMES = ("s3", "gs", "file", "http", "https")
HEAD_BYTES = 4096

_HINTS = {
    "NoCredentialsError": "no credentials were found; name a profile or keys in the environment",
    "PermissionError": "access was refused; a reader needs the rights to get and list, a writer to put",
    "FileNotFoundError": "the bucket or folder does not exist, or is not mounted",
}


class TransferTooSlow(Exception):
    """A transfer ran so slowly that making the result again takes less time."""


class UnusableFile(Exception):
    """What is wrong with a stored file (it is not a file, or too large), as the rest of a sentence."""


class Storage(Protocol):
    """The folder. Every method may raise whatever a driver raises.

    FileNotFoundError means that there is no such file.
    """

    writable: bool

    def get(self, key: str, file: Path, max_bytes: int) -> None:
        """Copy the file `key` to `file`; raises UnusableFile if it has more than `max_bytes`."""

    def head(self, key: str) -> bytes:
        """Read the first bytes of a file, at most `HEAD_BYTES`."""

    def put(self, file: Path, key: str) -> None:
        """Create a complete file or none; raises FileExistsError if the key is taken."""


class Address:
    """The URL of a shared folder, checked and taken apart.

    `option` is the option or variable that gave it. `display` is the URL without user name and
    password, for messages. Raises RecipeError for anything that is not the URL of a folder; the message
    does not quote it, because it may hold a password.
    """

    def __init__(self, url: str, option: str) -> None:
        parts = _split(url)
        if parts is None or "::" in url or parts.query or parts.fragment:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise RecipeError(
                f"{option}: this is not the URL of a folder. Begin it with one of {known}, and end it "
                "with the folder's path."
            )
        local = parts.scheme == "file"
        if bool(parts.hostname) == local or not (parts.netloc or parts.path[1:]):
            form = "file:///folder" if local else f"{parts.scheme}://name/folder"
            raise RecipeError(f"{option}: the URL names no folder. Write it as {form}.")
        self._login, _, host = parts.netloc.rpartition("@")
        self.scheme, self.path, self.url = parts.scheme, parts.path, url.rstrip("/")
        self.display = urlunsplit(parts._replace(netloc=host)).rstrip("/")

    def explain(self, error: BaseException) -> str:
        """Say in one line what a driver raised, without the password of the URL."""
        lines = [line for line in str(error).splitlines() if line.strip()]
        text = (lines[-1] if lines else type(error).__name__)[:160].rstrip(".")
        if self._login:
            text = text.replace(f"{self._login}@", "")
        hint = _HINTS.get(type(error).__name__)
        return f"{hint} ({text})" if hint else text


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for one that is not a number
    except ValueError:
        return None
    return parts if parts.scheme in SCHEMES else None
