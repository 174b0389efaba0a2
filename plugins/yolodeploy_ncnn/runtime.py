"""Run an artifact in the ncnn wheel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from yolodeploy.backend import Runtime
from yolodeploy.errors import StepFailed
from yolodeploy.machine import cpu_name
from yolodeploy_ncnn import param, weights
from yolodeploy_ncnn.export import BIN_FILE, PARAM_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import ncnn
    import numpy as np
    from numpy.typing import NDArray


class NcnnPredictor:
    """An opened artifact; images of a batch are run one after the other.

    ncnn's options stay at their defaults, as in an app, except for the number of threads
    and Vulkan, which is off. On x86 the weights are widened to fp32 when they are loaded and
    all arithmetic is fp32; on an Arm machine convolutions run in fp16, as on a phone.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        graph = _checked_graph(folder)
        self._input, self._output = graph.input, graph.output
        self._net = _load(folder, threads)
        self.runtime = _runtime(threads)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run `[N, 3, H, W]` images in 0..1; returns `[N, 4 + classes, anchors]`."""
        import numpy as np

        return np.stack([self._run(image) for image in images])

    def blobs(
        self, image: NDArray[np.float32], names: Iterable[str]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Run one image `[3, H, W]` and return what some blobs hold."""
        import ncnn
        import numpy as np

        pixels = np.ascontiguousarray(image, dtype=np.float32)
        with self._net.create_extractor() as extractor:
            extractor.set_light_mode(False)  # else a blob is dropped once it was read
            extractor.input(self._input, ncnn.Mat(pixels))
            for name in names:
                yield name, _extract(extractor, name)

    def _run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        import ncnn
        import numpy as np

        pixels = np.ascontiguousarray(image, dtype=np.float32)  # a Mat borrows its memory
        with self._net.create_extractor() as extractor:
            extractor.input(self._input, ncnn.Mat(pixels))
            return _extract(extractor, self._output)


def _extract(extractor: ncnn.Extractor, name: str) -> NDArray[np.float32]:
    import numpy as np

    code, blob = extractor.extract(name)
    if code != 0:
        raise StepFailed(f"ncnn could not compute {name}: code {code}.")
    return np.array(blob, dtype=np.float32)  # a copy: the blob goes with the extractor


def _checked_graph(folder: Path) -> param.Graph:
    """Read the graph and check that the weights fit it, which ncnn itself notices only at times."""
    graph, path = param.read(folder / PARAM_FILE), folder / BIN_FILE
    try:
        weights.blocks(graph, path.read_bytes())
    except (OSError, ValueError) as error:
        raise StepFailed(f"{path}: {error}. The file is damaged; build it again.") from error
    return graph


def _load(folder: Path, threads: int) -> ncnn.Net:
    _quiet_threads()
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for load, name in ((net.load_param, PARAM_FILE), (net.load_model, BIN_FILE)):
        if code := load(str(folder / name)):
            raise StepFailed(
                f"ncnn cannot read {folder / name}: code {code}. The file is damaged; build it again."
            )
    return net


def _quiet_threads() -> None:
    """Let idle OpenMP threads sleep; spinning ones starve each other on a busy machine.

    Works only before the first import of ncnn in the process. A value that is already set
    is left alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def _runtime(threads: int) -> Runtime:
    import ncnn

    return Runtime(
        name="ncnn",
        version=ncnn.__version__,
        device=cpu_name(),
        threads=threads,
        note="ncnn's Python wheel on this machine's CPU, not the target device; unless the export says "
        "`arithmetic: fp32`, Arm CPUs compute convolutions in fp16, which is not shown here",
    )
