"""The code that travels to a host: a zip file with the worker and a plugin's module, the same bytes for the same code."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import re
import zipfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import yolodeploy.worker
from yolodeploy import __version__

_EPOCH = (1980, 1, 1, 0, 0, 0)

# Runs on any Python 3, and imports nothing from the folder in which it starts. The first line that it prints says whether the zip file has to be sent; `explain_boot` words what
# it says when it stops.
BOOT = """
import sys
sys.path = [entry for entry in sys.path if entry]
import hashlib, os
def stop(why):
    sys.stderr.write("yolodeploy-worker: %s\\n" % why)
    sys.stderr.flush()
    sys.exit(3)
if sys.version_info < (3, 9):
    stop("python %d.%d" % sys.version_info[:2])
root, digest, size = os.path.expanduser(sys.argv[1]), sys.argv[2], int(sys.argv[3])
path = os.path.join(root, "code", digest + ".zip")
def there():
    try:
        with open(path, "rb") as stream:
            whole = hashlib.sha256(stream.read()).hexdigest() == digest
        os.utime(path)
        return whole
    except OSError:
        return False
found = there()
sys.stdout.write("yolodeploy-worker 1 %s\\n" % ("have" if found else "need"))
sys.stdout.flush()
if not found:
    data = sys.stdin.buffer.read(size)
    if hashlib.sha256(data).hexdigest() != digest:
        stop("torn")
    part = path + ".%d" % os.getpid()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "wb") as stream:
            stream.write(data)
        os.replace(part, path)
    except OSError as error:
        stop("disk %d" % error.errno)
sys.path.insert(0, path)
from yolodeploy.worker.serve import main
main(root)
"""
_STOP = re.compile(r"^yolodeploy-worker: (python|torn|disk|idle) ?([0-9.]*)\r?$", re.MULTILINE)
# As faulthandler says it.
_CRASH = re.compile(r"^Fatal Python error: ([A-Z][A-Za-z ]{3,60})\r?$", re.MULTILINE)


def explain_boot(messages: str) -> str | None:
    """Why BOOT or the worker stopped, with the remedy; None if it did not."""
    if crash := _CRASH.search(messages):
        illegal = "Its wheel may be for another processor: try another version, or build it there."
        again = "Run again; if that happens again, try another version of its runtime, or report it to its makers."
        why = crash[1]
        return (
            f"its runtime crashed there: {why}. {illegal if why.startswith('Illegal') else again}"
        )
    found = _STOP.search(messages)
    if not found:
        return None
    why, detail = found.groups()
    if why == "python":
        return f"yolodeploy needs Python 3.9 or newer there, and it has {detail}. Install a newer one, and name it as `python` in hosts.toml."
    if why == "disk":
        return disk_problem(int(detail or 0))
    if why == "idle":
        return "its worker ended, because it had no request for too long. What was finished is kept: run again."
    return "the connection was cut. What was finished is kept: run again."


def disk_problem(number: int) -> str:
    """What an error of the operating system means for the folder of a worker, with the remedy."""
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "its disk is full. Free some space there, or name another `folder` in hosts.toml."
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return "the folder of the worker cannot be written. Correct its permissions, or name another `folder` in hosts.toml."
    return f"its disk fails: {os.strerror(number)}. Name another `folder` in hosts.toml."


class Luggage(NamedTuple):
    """The zip file and its digest."""

    data: bytes
    digest: str


@cache
def pack(module: str | None) -> Luggage:
    """The worker, and a plugin's module if one is named."""
    files = {"yolodeploy/__init__.py": f'__version__ = "{__version__}"\n'.encode()}
    worker = Path(next(iter(yolodeploy.worker.__path__)))
    for file in sorted(worker.glob("*.py")):
        files[f"yolodeploy/worker/{file.name}"] = file.read_bytes()
    if module is not None:
        *parents, _ = module.split(".")
        for depth in range(1, len(parents) + 1):
            files.setdefault("/".join([*parents[:depth], "__init__.py"]), b"")
        files[module.replace(".", "/") + ".py"] = _source(module)
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return Luggage(into.getvalue(), sha256(into.getvalue()).hexdigest())


def _source(module: str) -> bytes:
    spec = importlib.util.find_spec(module)
    assert spec is not None  # noqa: S101 - the plugin that names it has it
    assert spec.origin is not None  # noqa: S101
    return Path(spec.origin).read_bytes()
