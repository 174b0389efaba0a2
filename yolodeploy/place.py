"""A folder somewhere else, reached through fsspec: what a shared store needs of it, and no more.

Time limits are short and nothing is tried twice: a store that is down may cost a build seconds, not
minutes. fsspec and its drivers are imported when the first file is asked for.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from yolodeploy.errors import EnvironmentProblem, RecipeError

SCHEMES = ("s3", "gs", "file", "http", "https")
CONNECT, SILENCE = 5.0, 15.0  # seconds: until a connection, and between two pieces of an answer
PATIENCE, LEAST_RATE = 20.0, 50e3  # seconds after which a file must come at so many bytes a second
HEAD = 4096


_HINTS: Mapping[str, str] = {
    "NoCredentialsError": "no credentials were found; name a profile or keys in the environment",
    "PermissionError": "access was refused; a reader needs the rights to get and list, a writer to put",
    "FileNotFoundError": "the bucket or folder does not exist",
}


class Slow(Exception):
    """A file comes more slowly than it could be made."""


class Place:
    """The folder at a URL; every method may raise whatever a driver raises.

    What raises FileNotFoundError is not there. Raises RecipeError for a URL that is none, and
    EnvironmentProblem where its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        hidden = parts._replace(netloc=parts.netloc.rpartition("@")[2])  # without a password
        self.scheme, self._url = parts.scheme, url.rstrip("/")
        self.shown = urlunsplit(hidden).rstrip("/")
        if self.scheme not in SCHEMES or "::" in url or parts.query or parts.fragment:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise RecipeError(
                f"--store {self.shown}: is no address of a folder. Begin it with one of {known}."
            )
        if bool(parts.netloc) == (self.scheme == "file") or not (parts.netloc or parts.path[1:]):
            form = "file:///folder" if self.scheme == "file" else f"{self.scheme}://name/folder"
            raise RecipeError(f"--store {self.shown}: names no folder. Write it as {form}.")
        self.writable = self.scheme not in {"http", "https"}
        self._secret = parts.netloc.rpartition("@")[0]

    @cached_property
    def _fs(self) -> Any:
        return _file_system(self.scheme)

    def reason(self, fault: BaseException) -> str:
        """What a driver's exception says, in one line, without the password of the URL."""
        lines = [line for line in str(fault).splitlines() if line.strip()]
        text = (lines[-1] if lines else type(fault).__name__)[:160].rstrip(".")
        if self._secret:
            text = text.replace(f"{self._secret}@", "")
        hint = _HINTS.get(type(fault).__name__)
        return f"{hint} ({text})" if hint else text

    def get(self, key: str, file: Path, most: int) -> None:
        """Copy the file `key` to `file`; raises Slow, or OverflowError if it has over `most` bytes."""
        self._fs.get_file(self._path(key), str(file), callback=_watch(most))
        if file.stat().st_size > most:
            raise OverflowError(f"has more than {most} bytes")

    def has(self, key: str) -> bool:
        """Whether the file `key` is there."""
        return bool(self._fs.exists(self._path(key)))

    def head(self, key: str) -> bytes:
        """The first bytes of a file."""
        data: bytes = self._fs.cat_file(self._path(key), start=0, end=HEAD)
        return data

    def put(self, file: Path, key: str) -> None:
        """Make a file appear whole, or not at all; raises FileExistsError if the key is taken."""
        if self.scheme == "file":
            _put_locally(file, Path(urlsplit(self._url).path), key)
        elif self.has(key):
            raise FileExistsError(key)
        else:  # an object store shows an object when all of it has come; `create`: If-None-Match
            self._fs.put_file(str(file), self._path(key), mode="create")

    def _path(self, key: str) -> str:
        path: str = self._fs._strip_protocol(f"{self._url}/{key}")  # noqa: SLF001 - fsspec's own idiom
        return path


def _put_locally(file: Path, root: Path, key: str) -> None:
    home, part = root / key, root / "tmp" / f"{Path(key).name}.{uuid.uuid4().hex}"
    if home.exists():
        raise FileExistsError(str(home))
    for folder in (home.parent, part.parent):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(b"")
        with file.open("rb") as source, part.open("r+b") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        part.chmod(0o444)
        _appear(part, home)
    finally:
        part.unlink(missing_ok=True)


def _appear(part: Path, home: Path) -> None:
    try:
        home.hardlink_to(part)  # fails where somebody was quicker
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        part.replace(home)


def _file_system(scheme: str) -> Any:
    try:
        import fsspec

        options = _OPTIONS[scheme]() if scheme in _OPTIONS else {}
        found = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    except ImportError as fault:
        raise EnvironmentProblem(
            f"--store {scheme}://: needs {fault.name or 'a driver'}, which is not installed. "
            f"Run: pip install 'yolodeploy[{'gs' if scheme == 'gs' else 'remote'}]'"
        ) from None
    if hasattr(found, "retries"):
        found.retries = 1
    return found


def _http() -> dict[str, Any]:
    import aiohttp

    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
    return {"client_kwargs": {"timeout": limits}}


def _s3() -> dict[str, Any]:
    import s3fs  # noqa: F401 - fsspec's own message does not say which module is missing

    limits = {"connect_timeout": CONNECT, "read_timeout": SILENCE, "retries": {"max_attempts": 1}}
    return {"config_kwargs": limits, "use_listings_cache": False}


def _gs() -> dict[str, Any]:
    import gcsfs  # noqa: F401

    return {"requests_timeout": SILENCE, "use_listings_cache": False}


_OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "http": _http,
    "https": _http,
    "s3": _s3,
    "gs": _gs,
}


def _watch(most: int) -> Any:
    """A callback that stops a copy that is too large or too slow."""
    from fsspec.callbacks import Callback

    class Watch(Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.start, self.got = time.monotonic(), 0

        def set_size(self, size: int | None) -> None:
            if size is not None and size > most:
                raise OverflowError(f"has {size} bytes, which is more than {most}")

        def relative_update(self, inc: int = 1) -> None:
            self.got += inc
            seconds = time.monotonic() - self.start
            if self.got > most:
                raise OverflowError(f"has more than {most} bytes")
            if seconds > PATIENCE and self.got < LEAST_RATE * seconds:
                raise Slow(f"gives only {self.got / seconds / 1e3:.0f} kB/s")

    return Watch()
