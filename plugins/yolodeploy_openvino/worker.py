"""Runs an IR in OpenVINO; it also travels to hosts, so it imports nothing that stays here."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def openvino() -> Any:
    """Import OpenVINO without its usage reporting.

    OpenVINO reports every import and conversion to its maker, and keeps a client id in the home
    folder, if the package `openvino_telemetry` can be imported; otherwise it uses a stub.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def version(module: Any) -> str:
    """The release without the build: 2025.2.0, not 2025.2.0-19140-c01cd93e24d-releases."""
    return str(module.__version__).partition("-")[0]


def reason(error: Exception) -> str:
    """The first informative line of a message; OpenVINO's messages start with a place in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check"))]
    return (telling or lines or [type(error).__name__])[0]


def has_unit(wanted: str, present: Sequence[str]) -> bool:
    """Whether a machine with the units `present` ("CPU", "GPU.0", ...) has the wanted one."""
    return any(name.split(".")[0] == wanted for name in present)


class Compiled:
    """An IR, compiled on a unit for "LATENCY" or "THROUGHPUT" (`hint`), in `precision` where the unit is the CPU.

    Raises RuntimeError or UnicodeDecodeError as OpenVINO does.
    """

    def __init__(self, file: Path, unit: str, precision: str, threads: int, hint: str) -> None:
        self.core, self.unit = openvino().Core(), unit
        self.model = self.core.read_model(file)
        config: dict[str, Any] = {"PERFORMANCE_HINT": hint}
        if unit == "CPU":
            config.update(INFERENCE_NUM_THREADS=threads, INFERENCE_PRECISION_HINT=precision)
        self.compiled = self.core.compile_model(self.model, unit, config)
        self.batch = int(self.compiled.input(0).shape[0])
        self.hardware = str(self.core.get_property(unit, "FULL_DEVICE_NAME")).strip()

    @property
    def arithmetic(self) -> str:
        """The type in which floats are computed, as OpenVINO names it ("f32")."""
        return str(self.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def placement(self) -> str:
        """What runs the model: the units and their arithmetic, and how many operations the unit says it takes."""
        units = ", ".join(map(str, self.compiled.get_property("EXECUTION_DEVICES")))
        taken = len(self.core.query_model(self.model, self.unit))
        count = len(self.model.get_ops())
        return f"computed in {self.arithmetic} on {units}; {self.unit} takes {taken} of the {count} operations"


class Net:
    """An IR for latency, as many images at a time as it was exported for."""

    def __init__(self, file: Path, unit: str, precision: str, threads: int) -> None:
        self.on = Compiled(file, unit, precision, threads, "LATENCY")
        self.batch = self.on.batch
        self._shapes = [tuple(port.shape) for port in self.on.compiled.outputs]
        self._request = self.on.compiled.create_infer_request()

    def __call__(self, images: Any) -> list[Any]:
        """Run float32 `[N, channels, H, W]` images; returns each output for all of them.

        The last batch is filled up with its last image where N is not a multiple of the IR's batch.
        """
        outputs = [np.empty((len(images), *shape[1:]), np.float32) for shape in self._shapes]
        for start in range(0, len(images), self.batch):
            chunk = images[start : start + self.batch]
            missing = self.batch - len(chunk)
            if missing:
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], missing, 0)])
            self._request.infer([np.ascontiguousarray(chunk)], share_inputs=True)
            for port, output in enumerate(outputs):
                into = output[start : start + self.batch]
                into[:] = self._request.get_output_tensor(port).data[: len(into)]
        return outputs


class Server:
    """An IR for throughput, with as many requests in flight as OpenVINO finds best."""

    def __init__(self, file: Path, unit: str, precision: str, threads: int) -> None:
        on = Compiled(file, unit, precision, threads, "THROUGHPUT")
        self.batch = on.batch
        self.requests = int(on.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._queue = openvino().AsyncInferQueue(on.compiled, self.requests)

    def __call__(self, images: Any, runs: int) -> float:
        """Run `[batch, channels, H, W]` images so many times; returns seconds until the last was done."""
        start = time.perf_counter()
        for _ in range(runs):
            self._queue.start_async([images], share_inputs=True)
        self._queue.wait_all()
        return time.perf_counter() - start


class Model:
    """An IR as a worker runs it."""

    def __init__(self, net: Net, names: Sequence[str]) -> None:
        self._net, self._names, self.batch = net, list(names), net.batch
        on = net.on
        note = f"computed in {on.arithmetic}" if on.unit == "CPU" else on.placement()
        self.runtime = {
            "name": "OpenVINO",
            "version": version(openvino()),
            "device": on.hardware,
            "note": note,
        }

    def __call__(self, images: Any) -> dict[str, Any]:
        """Run images; returns outputs by name."""
        return dict(zip(self._names, self._net(images)))


def open(folder: Path, options: Mapping[str, Any], threads: int) -> Model:  # noqa: A001 - the contract's name
    """Open the IR in a folder; `options` name its `file`, `unit`, `precision` and `outputs`."""
    return Model(_made(Net, folder, options, threads), options["outputs"])


def serve(folder: Path, options: Mapping[str, Any], threads: int) -> Server:
    """Open the IR for throughput."""
    made: Server = _made(Server, folder, options, threads)
    return made


def _made(kind: Any, folder: Path, options: Mapping[str, Any], threads: int) -> Any:
    """A Net or Server; RuntimeError with the reason if this machine lacks the unit, or cannot open the file on it."""
    unit, present = str(options["unit"]), list(openvino().Core().available_devices)
    if not has_unit(unit, present):
        raise RuntimeError(
            f"OpenVINO finds no {unit} there, only {', '.join(present)}. Install the {unit}'s driver, or measure where it is."
        )
    try:
        return kind(folder / str(options["file"]), unit, str(options["precision"]), threads)
    except (RuntimeError, UnicodeDecodeError) as error:
        raise RuntimeError(
            f"OpenVINO {version(openvino())} cannot open {options['file']} on {unit}: {reason(error)}"
        ) from None
