"""A place that is reached through fsspec. The library and its drivers are imported when the first file is asked for.

Time limits are short and nothing is tried twice: a store that is down may cost a build seconds, not
minutes. fsspec's coroutines, and the loop they run in, have names that begin with an underscore; they are
part of its interface for drivers that are asynchronous, as all of these are.
"""

# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import cached_property
from pathlib import Path
from typing import Any

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.place import HEAD, Address, NoFile, Slow

CONNECT, SILENCE = 5.0, 15.0  # seconds: until a connection, and between two pieces of an answer
PATIENCE, LEAST_RATE = (
    20.0,
    50e3,
)  # seconds after which a file must travel at so many bytes a second
_LOOK = 0.2  # seconds between two looks at how far it is


class Remote:
    """The folder; raises EnvironmentProblem where its driver is not installed."""

    def __init__(self, address: Address) -> None:
        self._scheme, self._url = address.scheme, address.url
        self.writable = address.scheme not in {"http", "https"}

    @cached_property
    def _fs(self) -> Any:
        return _file_system(self._scheme)

    def get(self, key: str, file: Path, most: int) -> None:
        """As `Place` has it."""
        counted = _counter(most)
        work = self._fs._get_file(self._path(key), str(file), callback=counted)
        self._finish(work, lambda: counted.got)
        if file.stat().st_size > most:
            raise NoFile(f"has more than {most} bytes")

    def head(self, key: str) -> bytes:
        """As `Place` has it."""
        data: bytes = self._finish(self._fs._cat_file(self._path(key), start=0, end=HEAD))
        return data

    def put(self, file: Path, key: str) -> None:
        """An object store shows an object when all of it has come; `create` stands for If-None-Match."""
        path, size = self._path(key), file.stat().st_size
        if self._finish(self._fs._exists(path)):
            raise FileExistsError(key)
        self._finish(self._fs._put_file(str(file), path, mode="create"), lambda: size)

    def _path(self, key: str) -> str:
        path: str = self._fs._strip_protocol(f"{self._url}/{key}")
        return path

    def _finish(self, work: Coroutine[Any, Any, Any], moved: Callable[[], int] = lambda: 0) -> Any:
        """Wait for work in fsspec's own thread; raises Slow unless `moved()` bytes are enough by then."""
        start = time.monotonic()
        future = asyncio.run_coroutine_threadsafe(work, self._fs.loop)
        try:
            while True:
                try:
                    return future.result(_LOOK)
                except TimeoutError:
                    if future.done():  # the driver's own, or it has just ended
                        return future.result()
                seconds = time.monotonic() - start
                if seconds > PATIENCE and moved() < LEAST_RATE * seconds:
                    raise Slow(f"gives or takes less than {LEAST_RATE / 1e3:.0f} kB/s")
        finally:
            future.cancel()


def _file_system(scheme: str) -> Any:
    try:
        import fsspec

        options = _OPTIONS[scheme]()
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


def _counter(most: int) -> Any:
    """A callback that counts bytes, and stops a copy that is too large."""
    from fsspec.callbacks import Callback

    class Counter(Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.got = 0

        def set_size(self, size: int | None) -> None:
            if size is not None and size > most:
                raise NoFile(f"has {size} bytes, which is more than {most}")

        def relative_update(self, inc: int = 1) -> None:
            self.got += inc
            if self.got > most:
                raise NoFile(f"has more than {most} bytes")

    return Counter()
