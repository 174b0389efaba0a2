"""Store files in an object store or read them from a web server, through fsspec's synchronous methods.

fsspec and its driver are imported when the first file is asked for. Time limits are short and nothing is
tried twice: a server that is down may cost a build seconds, not minutes.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.store.remote.storage import HEAD_BYTES, Address, TransferTooSlow, UnusableFile

CONNECT, SILENCE = 5.0, 15.0  # seconds: until a connection, and between two pieces of an answer
PATIENCE, MIN_RATE = 20.0, 50e3  # after these seconds, a transfer must average these bytes a second
TRANSFER = "shared store transfer"  # name of the thread
_POLL = 0.2  # seconds between two looks at how far a transfer is
_DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}

T = TypeVar("T")


class ObjectStore:
    """A folder that fsspec reaches; raises EnvironmentProblem where its driver is not installed."""

    def __init__(self, address: Address) -> None:
        self._scheme, self._url = address.scheme, address.url
        self.writable = address.scheme not in {"http", "https"}

    @cached_property
    def _fs(self) -> Any:
        return _file_system(self._scheme)

    def get(self, key: str, file: Path, max_bytes: int) -> None:
        """As in `Storage`."""
        fs, url, counter = self._fs, f"{self._url}/{key}", _byte_counter(max_bytes)
        self._watch(lambda: fs.get_file(url, str(file), callback=counter), lambda: counter.value)
        if file.stat().st_size > max_bytes:
            raise UnusableFile(f"has more than {max_bytes} bytes")

    def head(self, key: str) -> bytes:
        """As in `Storage`."""
        fs, url = self._fs, f"{self._url}/{key}"
        data: bytes = self._watch(lambda: fs.cat_file(url, start=0, end=HEAD_BYTES))
        return data

    def put(self, file: Path, key: str) -> None:
        """As in `Storage`: an object appears when all of it has come; `create` sends If-None-Match."""
        fs, url, size = self._fs, f"{self._url}/{key}", file.stat().st_size
        if self._watch(lambda: fs.exists(url)):
            raise FileExistsError(key)
        self._watch(lambda: fs.put_file(str(file), url, mode="create"), lambda: size)

    def _watch(self, transfer: Callable[[], T], moved: Callable[[], int] = lambda: 0) -> T:
        """Run a transfer in a thread; raises TransferTooSlow if it is late and too few bytes have moved."""
        start, result = time.monotonic(), Future[T]()
        threading.Thread(None, _run, TRANSFER, (transfer, result), daemon=True).start()
        try:
            while True:
                try:
                    return result.result(_POLL)
                except TimeoutError:
                    if result.done():  # the driver raised it, or the transfer has just ended
                        return result.result()
                seconds = time.monotonic() - start
                if seconds > PATIENCE and moved() < MIN_RATE * seconds:
                    raise TransferTooSlow(f"transfers less than {MIN_RATE / 1e3:.0f} kB/s")
        finally:
            if not result.done():
                _cancel_tasks(self._fs.loop)


def _run(transfer: Callable[[], T], result: Future[T]) -> None:
    try:
        result.set_result(transfer())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        result.set_exception(error)


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """End what fsspec's event loop is doing: only the transfer that is being given up."""
    for task in asyncio.all_tasks(loop):
        loop.call_soon_threadsafe(task.cancel)


def _file_system(scheme: str) -> Any:
    try:
        import fsspec

        driver = importlib.import_module(_DRIVERS[scheme])  # fsspec does not say which is missing
    except ImportError as error:
        raise EnvironmentProblem(
            f"--store {scheme}://: needs {error.name or 'a driver'}, which is not installed. "
            f"Run: pip install 'yolodeploy[{'gs' if scheme == 'gs' else 'remote'}]'"
        ) from None
    options: dict[str, Any]
    if scheme == "s3":
        limits = {"connect_timeout": CONNECT, "read_timeout": SILENCE}
        once = {"retries": {"max_attempts": 1}}
        options = {"config_kwargs": {**limits, **once}, "use_listings_cache": False}
    elif scheme == "gs":
        options = {"requests_timeout": SILENCE, "use_listings_cache": False}
    else:
        timeout = driver.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        options = {"client_kwargs": {"timeout": timeout}}
    found = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
    if hasattr(found, "retries"):
        found.retries = 1
    return found


def _byte_counter(max_bytes: int) -> Any:
    """A callback that counts bytes in `value`, and stops a download that is too large."""
    from fsspec.callbacks import Callback

    class ByteCounter(Callback):  # type: ignore[misc]
        def set_size(self, size: int | None) -> None:
            if size is not None and size > max_bytes:
                raise UnusableFile(f"has {size} bytes, which is more than {max_bytes}")

        def relative_update(self, inc: int = 1) -> None:
            self.value += inc
            if self.value > max_bytes:
                raise UnusableFile(f"has more than {max_bytes} bytes")

    return ByteCounter()
