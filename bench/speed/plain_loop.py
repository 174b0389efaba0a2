"""A camera loop of one model over the runtime's own API: an independent clock for the report's latencies.

    python plain_loop.py ncnn|openvino FOLDER HEIGHT WIDTH THREADS

Prints the median of a run in milliseconds by the wall clock. Imports nothing of yolodeploy.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SETTLE, SECONDS = 0.5, 2.0


def ncnn_run(folder: Path, shape: tuple[int, int], threads: int) -> Callable[[], object]:
    """One run of a model in ncnn."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.load_param(str(folder / "model.ncnn.param"))
    net.load_model(str(folder / "model.ncnn.bin"))
    image = np.random.default_rng(0).random((3, *shape), np.float32)

    def run() -> object:
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(image))
            return extractor.extract("out0")

    return run


def openvino_run(folder: Path, shape: tuple[int, int], threads: int) -> Callable[[], object]:
    """One run of a model in OpenVINO."""
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = (
        openvino.Core().compile_model(folder / "model.xml", "CPU", config).create_infer_request()
    )
    image = np.random.default_rng(0).random((1, 3, *shape), np.float32)
    return lambda: request.infer([image], share_inputs=True)


def main(runtime: str, folder: str, height: str, width: str, threads: str) -> None:
    """Print the median of a run."""
    start = {"ncnn": ncnn_run, "openvino": openvino_run}[runtime]
    run = start(Path(folder), (int(height), int(width)), int(threads))
    end = time.perf_counter() + SETTLE
    while time.perf_counter() < end:
        run()
    times: list[float] = []
    end += SECONDS
    while time.perf_counter() < end:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    print(statistics.median(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
