"""A folder somewhere else: what a shared store needs of it, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from yolodeploy.errors import RecipeError

SCHEMES = ("s3", "gs", "file", "http", "https")
HEAD = 4096  # bytes that `head` gives at most

_HINTS: Mapping[str, str] = {
    "NoCredentialsError": "no credentials were found; name a profile or keys in the environment",
    "PermissionError": "access was refused; a reader needs the rights to get and list, a writer to put",
    "FileNotFoundError": "the bucket or folder does not exist, or is not mounted",
}


class Slow(Exception):
    """A file travels more slowly than it could be made."""


class NoFile(Exception):
    """What lies where a file should be is none, or one that is too large; as the rest of a sentence."""


class Place(Protocol):
    """The folder; every method may raise whatever a driver raises.

    FileNotFoundError says that there is no such file, NoFile and Slow what their names say.
    """

    writable: bool

    def get(self, key: str, file: Path, most: int) -> None:
        """Copy the file `key` to `file`; raises NoFile if it has over `most` bytes."""
        ...

    def head(self, key: str) -> bytes:
        """The first bytes of a file."""
        ...

    def put(self, file: Path, key: str) -> None:
        """Make a file appear whole, or not at all; raises FileExistsError if the key is taken."""
        ...


class Address:
    """A URL of a folder, taken apart; raises RecipeError for one that is none.

    `named` is the option or variable that it comes from. `shown` is the URL as messages show it, without
    name and password.
    """

    def __init__(self, url: str, named: str) -> None:
        parts = _split(url)
        if parts is None or "::" in url or parts.query or parts.fragment:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise RecipeError(f"{named}: is no address of a folder. Begin it with one of {known}.")
        form = f"{parts.scheme}://name/folder"
        if parts.scheme == "file":
            form = "file:///folder"
        if bool(parts.hostname) == (parts.scheme == "file") or not (parts.netloc or parts.path[1:]):
            raise RecipeError(f"{named}: names no folder. Write it as {form}.")
        user, _, host = parts.netloc.rpartition("@")
        self.scheme, self.path, self.url = parts.scheme, parts.path, url.rstrip("/")
        self.shown = urlunsplit(parts._replace(netloc=host)).rstrip("/")
        self._secret = user

    def reason(self, fault: BaseException) -> str:
        """What a driver's exception says, in one line, without the password of the URL."""
        lines = [line for line in str(fault).splitlines() if line.strip()]
        text = (lines[-1] if lines else type(fault).__name__)[:160].rstrip(".")
        if self._secret:
            text = text.replace(f"{self._secret}@", "")
        hint = _HINTS.get(type(fault).__name__)
        return f"{hint} ({text})" if hint else text


def _split(url: str) -> SplitResult | None:
    """None for what cannot be told apart: it may hold a password, and is not to be shown."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for one that is none
    except ValueError:
        return None
    return parts if parts.scheme in SCHEMES else None


def place_at(address: Address) -> Place:
    """The place at an address."""
    if address.scheme == "file":
        from yolodeploy.mounted import Mounted

        return Mounted(address.path)
    from yolodeploy.remote import Remote

    return Remote(address)
