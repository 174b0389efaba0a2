"""Run an artifact in the ncnn wheel, on this machine's CPU or its Vulkan device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from yolodeploy.backend import OUTPUT, PROTOTYPES, Artifact, Remote, Runtime
from yolodeploy.errors import StepFailed
from yolodeploy.system import cpu_name
from yolodeploy_ncnn import model
from yolodeploy_ncnn.bin_file import BIN_FILE
from yolodeploy_ncnn.decode import FEATURE_MASK, ON_CPU
from yolodeploy_ncnn.gpu import note, on_target, placement, require_gpu
from yolodeploy_ncnn.param_file import PARAM_FILE

if TYPE_CHECKING:
    from pathlib import Path

    import ncnn
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend import Device, Outputs
    from yolodeploy_ncnn.gpu import Gpu
    from yolodeploy_ncnn.param_file import Graph
    from yolodeploy_ncnn.runtime.worker import Net


_NOTE = (
    "ncnn's Python wheel; unless the export says `arithmetic: fp32`, Arm CPUs compute convolutions in fp16, which an "
    "x86-64 CPU does not show"
)

_NOTE_OF_A_CPU = "unless the export says `arithmetic: fp32`, Arm CPUs compute convolutions in fp16"
_NOTE_OF_A_GPU = "decoding on the CPU in fp32, the rest on the GPU as far as ncnn has forms for it"


class NcnnPredictor:
    """Runs an artifact, image after image.

    ncnn's options keep their defaults, as in an app, except for the number of threads, and for Vulkan, which is on only
    with `device`: then the network runs on this machine's Vulkan device, in place of the GPU of that one. On x86 CPUs the
    weights are widened to fp32 when they are loaded, and all arithmetic is fp32; on an Arm machine convolutions run in
    fp16, as on a phone. Vulkan devices compute in fp16 as far as they can.
    """

    def __init__(self, folder: Path, threads: int, device: Device | None = None) -> None:
        # ncnn itself rarely notices weights that do not fit the graph; reading the artifact does.
        graph = model.read(Artifact("ncnn", folder, "")).graph
        refuse_foreign(graph)
        gpu = require_gpu() if device else None
        self._net = _opened(folder, graph, threads, vulkan=gpu is not None)
        import ncnn

        on_cpu = Runtime("ncnn", ncnn.__version__, cpu_name(), threads, _NOTE)
        self.runtime = (
            _on_gpu(on_cpu, gpu, self._net.ncnn, graph, device) if gpu and device else on_cpu
        )

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Run `[N, channels, H, W]` images in 0..1; returns the output, of several outputs a mapping by name."""
        with _failing():
            return _named(self._net(images))

    def blobs(
        self, image: NDArray[np.float32], names: Iterable[str]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Run one image `[3, H, W]` and yield the content of some blobs, by name."""
        with _failing():
            yield from self._net.blobs(image, names)


def remote(artifact: Artifact, *, vulkan: bool) -> Remote:
    """How a host runs the artifact, with `vulkan` on its GPU."""
    graph = model.read(artifact).graph
    refuse_foreign(graph)
    return Remote(
        outputs=tuple(graph.outputs),
        finish=lambda found: _named(list(found.values())),
        options={
            "files": [PARAM_FILE, BIN_FILE],
            "input": graph.input,
            "outputs": list(graph.outputs),
            "vulkan": vulkan,
        },
        note=_NOTE_OF_A_GPU if vulkan else _NOTE_OF_A_CPU,
        shapes=partial(_shapes, artifact.path, graph),
    )


def _shapes(folder: Path, graph: Graph) -> list[tuple[int, ...]] | None:
    """The shapes of the outputs, if the network says which images it takes."""
    pixels = graph.producers[graph.input]
    if any(key not in pixels.params for key in (0, 1, 2)):
        return None
    channels, height, width = (pixels.number(key) for key in (2, 1, 0))
    return output_shapes(folder, (channels, height, width))


def _named(found: Sequence[NDArray[np.float32]]) -> NDArray[np.float32] | Outputs:
    """The output, or several by name."""
    return found[0] if len(found) == 1 else dict(zip((OUTPUT, PROTOTYPES), found, strict=True))


def output_shapes(folder: Path, image: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """The shapes of what an artifact returns for one image `[channels, height, width]`, in the order of its outputs."""
    import numpy as np

    found = NcnnPredictor(folder, 1)(np.zeros((1, *image), np.float32))
    arrays = [found] if isinstance(found, np.ndarray) else list(found.values())
    return [array.shape[1:] for array in arrays]


def refuse_foreign(graph: Graph) -> None:
    """Raise StepFailed for a layer that ncnn does not have: computing the network would end the process."""
    import ncnn

    for layer in graph.layers:
        if ncnn.layer_to_index(layer.type) < 0:
            raise StepFailed(
                f"layer {layer.name[:60]} is a {layer.type[:60]}, which ncnn {ncnn.__version__} does not have. "
                "The model has an operation that cannot run in ncnn; use another target."
            )


def _on_gpu(on_cpu: Runtime, gpu: Gpu, net: ncnn.Net, graph: Graph, device: Device) -> Runtime:
    """The runtime of a network on a Vulkan device; its speed counts only on the GPU of the target."""
    kept = frozenset(la.name for la in graph.layers if la.params.get(FEATURE_MASK) == ON_CPU)
    return replace(
        on_cpu,
        name=f"ncnn with Vulkan{' in software' if gpu.software else ''}",
        device=f"{on_cpu.device} with {gpu.name}",
        note=note(gpu, placement(net, kept), device),
        timing=on_target(gpu, device),
    )


def _opened(folder: Path, graph: Graph, threads: int, *, vulkan: bool) -> Net:
    from yolodeploy_ncnn.runtime.worker import Net

    files = folder / PARAM_FILE, folder / BIN_FILE
    with _failing():
        return Net(files, graph.input, graph.outputs, threads, vulkan=vulkan)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Turn what the worker's code says of ncnn into StepFailed."""
    try:
        yield
    except RuntimeError as error:
        raise StepFailed(str(error)) from error
