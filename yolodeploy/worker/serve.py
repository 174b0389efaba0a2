"""The loop of a worker: reads a request, does it, and writes the answer, until the desk hangs up.

A request is a message (see `frames`) with `id` and `do`; its answer bears the same `id` and either `result` or `error`
with `kind`: "missing" (digests that are not kept), "disk", "request" (it cannot be done as asked) or "model" (the
runtime failed). Before the answer of long work come messages with `progress`, the share that is done. What a runtime prints goes to stderr, because stdout carries the answers.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from yolodeploy.worker import machine
from yolodeploy.worker.frames import MARK, Frame, read_frame, write_frame
from yolodeploy.worker.kept import Kept
from yolodeploy.worker.throughput import measure_throughput
from yolodeploy.worker.turns import batch_of, time_in_turns

IDLE = 900  # seconds without a request after which a worker ends: its desk may have vanished
MOST = 4 << 30  # bytes of one request


class Worker:
    """One process on a host: what it keeps, and what it has opened."""

    def __init__(self, root: Path, tell: Callable[[float], None]) -> None:
        self._root, self._kept, self._tell = root, Kept(root), tell
        self._models: dict[str, Any] = {}

    def answer(self, frame: Frame) -> tuple[dict[str, Any], list[Any]]:
        """Do what a request asks; returns the result and its blobs."""
        head = frame.head
        act = {
            "hello": self._hello,
            "keep": self._keep,
            "open": self._open,
            "predict": self._predict,
            "time": self._time,
        }.get(str(head.get("do")))
        if act is None:
            raise ValueError(f"no worker can do {head.get('do')!r}")
        return act(head, frame.blobs)

    def _hello(self, head: Mapping[str, Any], _: list[bytes]) -> tuple[dict[str, Any], list[Any]]:
        """This machine; the versions of some distributions (None: missing); what is kept, of at most `kept_bytes`."""
        if "kept_bytes" in head:
            self._kept.prune(int(head["kept_bytes"]))
        wanted = {str(name): _version(str(name)) for name in head["distributions"]}
        free = shutil.disk_usage(str(self._root)).free
        about = {**machine.described(), "distributions": wanted, "free_bytes": free}
        return {**about, "kept": self._kept.digests()}, []

    def _keep(
        self, head: Mapping[str, Any], blobs: list[bytes]
    ) -> tuple[dict[str, Any], list[Any]]:
        for digest, data in zip(head["digests"], blobs):
            self._kept.add(digest, data)
        return {}, []

    def _open(self, head: Mapping[str, Any], _: list[bytes]) -> tuple[dict[str, Any], list[Any]]:
        name = str(head["name"])
        self._models.pop(name, None)  # two at a time would take twice the memory
        self._models[name] = model = self._opened(head["model"], int(head["threads"]))
        return {"runtime": model.runtime, "batch": batch_of(model)}, []

    def _predict(
        self, head: Mapping[str, Any], blobs: list[bytes]
    ) -> tuple[dict[str, Any], list[Any]]:
        """Run images of one shape `[C, H, W]`: of uint8 pixels, kept or to be kept (`digests`), or of float32 blobs."""
        import numpy as np

        shape = tuple(int(side) for side in head["shape"])
        if "images" in head:
            self._keep(head, blobs)
            new = dict(zip(head["digests"], blobs))
            images = np.stack([self._image(digest, new, shape) for digest in head["images"]])
        else:
            images = np.stack([np.frombuffer(blob, "<f4").reshape(shape) for blob in blobs])
        found = self._models[str(head["name"])](images)
        arrays = [np.ascontiguousarray(array, "<f4") for array in found.values()]
        about = [{"name": name, "shape": list(each.shape)} for name, each in zip(found, arrays)]
        return {"outputs": about}, list(arrays)

    def _time(self, head: Mapping[str, Any], _: list[bytes]) -> tuple[dict[str, Any], list[Any]]:
        import numpy as np

        threads, shape = int(head["threads"]), tuple(head["shape"])
        tensor = np.frombuffer(self._kept.read(head["tensor"]), "<f4").reshape((1, *shape))
        others = {
            name: partial(self._opened, each, threads) for name, each in head["others"].items()
        }
        opened = partial(self._opened, head["model"], threads)
        brief = bool(head.get("brief"))
        timing = time_in_turns(
            opened, others, tensor, threads, head["limits"], self._tell, brief=brief
        )
        count = int(head.get("serving", 0))
        if count:
            pair = head["model"], head["others"][head["reference"]]
            ours, theirs = (self._opened(each, count, "serve") for each in pair)
            timing = replace(timing, throughput=measure_throughput(ours, theirs, tensor, count))
        return asdict(timing), []

    def _opened(self, model: Mapping[str, Any], threads: int, by: str = "open") -> Any:
        """Open an artifact: `module` has `open(folder, options, threads)`, or `serve`; `files` are digests by path."""
        module = importlib.import_module(str(model["module"]))
        folder = self._kept.folder(model["files"])
        try:
            return getattr(module, by)(folder, model["options"], threads)
        finally:
            self._kept.drop(folder)

    def _image(self, digest: str, new: Mapping[str, bytes], shape: tuple[int, ...]) -> Any:
        """The image as `data.to_tensor` makes it, bit for bit, of pixels that just came or are kept."""
        import numpy as np

        data = new[digest] if digest in new else self._kept.read(digest)
        pixels = np.frombuffer(data, np.uint8).reshape(shape)
        return pixels.astype(np.float32) / np.float32(255)


def serve(requests: IO[bytes], answers: IO[bytes], root: Path) -> None:
    """Answer requests until there are no more."""
    number: Any = None

    def tell(done: float) -> None:
        write_frame(answers, {"id": number, "progress": done})

    worker = Worker(root, tell)
    while True:
        _alarm(IDLE)
        try:
            frame = read_frame(requests, MOST)
        except EOFError:
            return
        finally:
            _alarm(0)
        number = frame.head.get("id")
        head, blobs = _answer(worker, frame)
        _alarm(IDLE)  # a desk that vanished does not take the answer either
        write_frame(answers, {"id": number, **head}, blobs)


def _alarm(seconds: int) -> None:
    with contextlib.suppress(AttributeError):  # Windows has no alarm
        signal.signal(signal.SIGALRM, _end)
        signal.alarm(seconds)


def _end(*_: object) -> None:
    os.write(2, b"yolodeploy-worker: idle\n")
    os._exit(3)


def _answer(worker: Worker, frame: Frame) -> tuple[dict[str, Any], list[Any]]:
    try:
        result, blobs = worker.answer(frame)
        return {"result": result}, blobs
    except KeyError as error:
        return {"error": str(error.args[0]), "kind": "missing"}, []
    except OSError as error:
        return {"error": error.strerror or str(error), "kind": "disk", "errno": error.errno}, []
    except (TypeError, ValueError) as error:
        return {"error": _line(error), "kind": "request"}, []
    except Exception as error:  # noqa: BLE001 - a runtime fails in any way, and the desk says so
        return {"error": _line(error), "kind": "model"}, []


def _line(error: Exception) -> str:
    """The last line of what an error says; what the worker's own code raises needs no name of a class."""
    named = "" if type(error) in (RuntimeError, ValueError) else f"{type(error).__name__}: "
    lines = f"{named}{error}".strip().splitlines()
    return lines[-1][:500] if lines else type(error).__name__


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def main(root: str) -> None:
    """Serve stdin and stdout, below one folder."""
    faulthandler.enable()  # a crash of native code says what it was
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    folder = Path(root).expanduser()
    try:
        Kept(folder)
    except OSError as error:
        sys.stderr.write(f"yolodeploy-worker: disk {error.errno}\n")
        sys.exit(3)
    answers.write(MARK + b"ready\n")
    answers.flush()
    serve(sys.stdin.buffer, answers, folder)
