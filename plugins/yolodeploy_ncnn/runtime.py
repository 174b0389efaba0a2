"""Run an artifact in the ncnn wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolodeploy.backend import OUTPUT, PROTOTYPES, Artifact, Runtime
from yolodeploy.errors import StepFailed
from yolodeploy.system import cpu_name
from yolodeploy_ncnn import model
from yolodeploy_ncnn.bin_file import BIN_FILE
from yolodeploy_ncnn.param_file import PARAM_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import ncnn
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend import Outputs
    from yolodeploy_ncnn.param_file import Graph


class NcnnPredictor:
    """Runs an artifact, image after image.

    ncnn's options keep their defaults, as in an app, except for the number of threads and Vulkan,
    which is off. On x86 the weights are widened to fp32 when they are loaded, and all arithmetic is
    fp32; on an Arm machine convolutions run in fp16, as on a phone.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        # ncnn itself rarely notices weights that do not fit the graph; reading the artifact does.
        graph = model.read(Artifact("ncnn", folder, "")).graph
        refuse_foreign(graph)
        self._input, self._outputs = graph.input, graph.outputs
        self._net = _load(folder, threads)
        import ncnn

        self.runtime = Runtime(
            name="ncnn",
            version=ncnn.__version__,
            device=cpu_name(),
            threads=threads,
            note="ncnn's Python wheel on this machine's CPU, not the target device; unless the export says "
            "`arithmetic: fp32`, Arm CPUs compute convolutions in fp16, which is not shown here",
        )

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Run `[N, channels, H, W]` images in 0..1; returns the output, of several outputs a mapping by name."""
        import numpy as np

        rows = [[blob for _, blob in self.blobs(image, self._outputs)] for image in images]
        found = [np.stack(blobs) for blobs in zip(*rows, strict=True)]
        return found[0] if len(found) == 1 else dict(zip((OUTPUT, PROTOTYPES), found, strict=True))

    def blobs(
        self, image: NDArray[np.float32], names: Iterable[str]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Run one image `[3, H, W]` and yield the content of some blobs, by name."""
        import ncnn
        import numpy as np

        wanted = list(names)
        pixels = np.ascontiguousarray(image, dtype=np.float32)  # a Mat borrows its memory
        with self._net.create_extractor() as extractor:
            # In light mode, the default, ncnn frees every blob once it was read.
            extractor.set_light_mode(wanted == list(self._outputs))
            extractor.input(self._input, ncnn.Mat(pixels))
            for name in wanted:
                code, blob = extractor.extract(name)
                if code != 0:
                    raise StepFailed(
                        f"ncnn cannot compute the blob {name}: code {code}. Build the artifact again."
                    )
                yield name, np.array(blob, dtype=np.float32)  # a copy: the extractor frees the blob


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


def _load(folder: Path, threads: int) -> ncnn.Net:
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
