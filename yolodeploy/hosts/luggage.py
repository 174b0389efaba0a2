"""The code that travels to a host: a zip file with the worker and a plugin's module, the same bytes for the same code."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import yolodeploy.worker
from yolodeploy import __version__

_EPOCH = (1980, 1, 1, 0, 0, 0)

# Runs on any Python 3. The first line that it prints says whether the zip file has to be sent.
BOOT = """
import hashlib, os, sys
root, digest, size = os.path.expanduser(sys.argv[1]), sys.argv[2], int(sys.argv[3])
path = os.path.join(root, "code", digest + ".zip")
there = os.path.isfile(path)
sys.stdout.write("yolodeploy-worker 1 %s\\n" % ("have" if there else "need"))
sys.stdout.flush()
if sys.version_info < (3, 9):
    sys.exit("yolodeploy needs Python 3.9 or newer, and this is %d.%d" % sys.version_info[:2])
if not there:
    data = sys.stdin.buffer.read(size)
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit("the code did not arrive whole")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".%d" % os.getpid(), "wb") as stream:
        stream.write(data)
    os.replace(path + ".%d" % os.getpid(), path)
sys.path[0] = path
from yolodeploy.worker.serve import main
main(root)
"""


class Luggage(NamedTuple):
    """The zip file and its digest."""

    data: bytes
    digest: str


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
