"""Runs a model in ONNX Runtime; it also travels to hosts, so it imports nothing that stays here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from yolodeploy.worker.machine import cpu_name

CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3


def available(wanted: Sequence[str]) -> list[str]:
    """The execution providers among those `wanted` that this machine has, and the CPU's."""
    present = onnxruntime.get_available_providers()
    return [*(name for name in wanted if name in present and name != CPU), CPU]


def session(model: Any, threads: int, providers: Sequence[str]) -> Any:
    """Open a model, given as bytes or as a Path; RuntimeError with ONNX Runtime's reason if it refuses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    given = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(given, options, providers=list(providers))
    except Exception as error:
        # Every kind of its errors is a class of its own that derives from Exception alone.
        if type(error).__module__.partition(".")[0] != "onnxruntime":
            raise
        raise RuntimeError(" ".join(str(error).split())[:200]) from error


class Net:
    """A model for latency, as many images at a time as it was exported for."""

    def __init__(self, file: Path, image: str, threads: int, providers: Sequence[str]) -> None:
        self._session, self._image = session(file, threads, available(providers)), image
        require_input(self._session, image)
        self.batch = batch_of(self._session)
        self.provider = str(self._session.get_providers()[0])
        self._shapes = [each.shape[1:] for each in self._session.get_outputs()]

    def __call__(self, images: Any) -> list[Any]:
        """Run float32 `[N, channels, H, W]` images; returns each output for all of them.

        The last batch is filled up with its last image where N is not a multiple of the artifact's batch.
        """
        outputs = [np.empty((len(images), *shape), np.float32) for shape in self._shapes]
        for start in range(0, len(images), self.batch):
            chunk = images[start : start + self.batch]
            missing = self.batch - len(chunk)
            if missing:
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], missing, 0)])
            for output, values in zip(outputs, self._session.run(None, {self._image: chunk})):
                into = output[start : start + self.batch]
                into[:] = values[: len(into)]
        return outputs


class Server:
    """A model for throughput: a request on every thread."""

    def __init__(self, file: Path, image: str, threads: int, providers: Sequence[str]) -> None:
        self._session, self._image = session(file, 1, available(providers)), image
        require_input(self._session, image)
        self.batch, self.requests = batch_of(self._session), threads
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, images: Any, runs: int) -> float:
        """Run `[batch, channels, H, W]` images so many times; returns seconds until the last was done."""
        start = time.perf_counter()
        given = {self._image: images}
        for done in [self._pool.submit(self._session.run, None, given) for _ in range(runs)]:
            done.result()
        return time.perf_counter() - start


def batch_of(opened: Any) -> int:
    """How many images a model takes at once; 1 if it does not say."""
    first = opened.get_inputs()[0].shape[0]
    return max(first, 1) if isinstance(first, int) else 1


def require_input(opened: Any, image: str) -> None:
    """Raise RuntimeError for a model that takes anything but images."""
    if [each.name for each in opened.get_inputs()] != [image]:
        raise RuntimeError(f"it takes other inputs than `{image}`")


class Model:
    """A model as a worker runs it."""

    def __init__(self, net: Net, names: Sequence[str]) -> None:
        self._net, self._names, self.batch = net, list(names), net.batch
        self.runtime = {
            "name": "ONNX Runtime",
            "version": onnxruntime.__version__,
            "device": cpu_name(),
            "note": f"computed by {net.provider}",
        }

    def __call__(self, images: Any) -> dict[str, Any]:
        """Run images; returns outputs by name."""
        return dict(zip(self._names, self._net(images)))


def open(folder: Path, options: Mapping[str, Any], threads: int) -> Model:  # noqa: A001 - the contract's name
    """Open the model in a folder; `options` name its `file`, `image`, `providers` and `outputs`."""
    return Model(_made(Net, folder, options, threads), options["outputs"])


def serve(folder: Path, options: Mapping[str, Any], threads: int) -> Server:
    """Open the model for throughput."""
    made: Server = _made(Server, folder, options, threads)
    return made


def _made(kind: Any, folder: Path, options: Mapping[str, Any], threads: int) -> Any:
    file, image = folder / str(options["file"]), str(options["image"])
    try:
        return kind(file, image, threads, [str(name) for name in options["providers"]])
    except RuntimeError as error:
        raise RuntimeError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open {options['file']}: {error}"
        ) from None
