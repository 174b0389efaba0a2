"""Runs an artifact in ncnn; it also travels to hosts, so it imports nothing that stays here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from yolodeploy.worker.machine import cpu_name

_SOFTWARE = 3  # GpuInfo::type of a device that is a CPU: ncnn, src/gpu.h


class Net:
    """A network with one input, of `files` with graph and weights. ncnn's options keep their defaults, as in an app, except for the number of threads.

    With `vulkan` it runs on the Vulkan device that ncnn chooses by itself. Raises RuntimeError with the reason if ncnn cannot read the files, or cannot compute a blob.
    """

    def __init__(
        self,
        files: Sequence[Path],
        input_: str,
        outputs: Iterable[str],
        threads: int,
        *,
        vulkan: bool = False,
    ) -> None:
        self._input, self._outputs = input_, list(outputs)
        self.ncnn = ncnn.Net()
        self.ncnn.opt.num_threads = threads
        self.ncnn.opt.use_vulkan_compute = vulkan
        for load, file in zip((self.ncnn.load_param, self.ncnn.load_model), files):
            if code := load(str(file)):
                raise RuntimeError(
                    f"ncnn cannot read {file}: code {code}. The file is damaged; build it again."
                )

    def __call__(self, images: Any) -> list[Any]:
        """Run float32 `[N, channels, H, W]` images; returns each output for all of them."""
        rows = [[blob for _, blob in self.blobs(image, self._outputs)] for image in images]
        return [np.stack(blobs) for blobs in zip(*rows)]

    def blobs(self, image: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Run one image `[channels, H, W]` and yield the content of some blobs, by name."""
        wanted = list(names)
        pixels = np.ascontiguousarray(image, dtype=np.float32)  # a Mat borrows its memory
        with self.ncnn.create_extractor() as extractor:
            # In light mode, the default, ncnn frees every blob once it was read.
            extractor.set_light_mode(wanted == self._outputs)
            extractor.input(self._input, ncnn.Mat(pixels))
            for name in wanted:
                code, blob = extractor.extract(name)
                if code != 0:
                    raise RuntimeError(
                        f"ncnn cannot compute the blob {name}: code {code}. Build the artifact again."
                    )
                yield name, np.array(blob, dtype=np.float32)  # a copy: the extractor frees the blob


class Model:
    """A network as a worker runs it."""

    def __init__(self, folder: Path, options: Mapping[str, Any], threads: int) -> None:
        self._names = [str(name) for name in options["outputs"]]
        files, vulkan = [folder / str(name) for name in options["files"]], bool(options["vulkan"])
        gpu = f" with {_gpu()}" if vulkan else ""
        self._net = Net(files, str(options["input"]), self._names, threads, vulkan=vulkan)
        self.runtime = {
            "name": f"ncnn{' with Vulkan' * vulkan}",
            "version": ncnn.__version__,
            "device": f"{cpu_name()}{gpu}",
        }

    def __call__(self, images: Any) -> dict[str, Any]:
        """Run images; returns outputs by their names in the network."""
        return dict(zip(self._names, self._net(images)))


def _gpu() -> str:
    """The name of the GPU that ncnn chooses; RuntimeError if there is none."""
    index = ncnn.get_default_gpu_index()
    if index < 0:
        raise RuntimeError("ncnn finds no Vulkan device. Install the driver of the GPU")
    info = ncnn.get_gpu_info(index)
    if info.type() == _SOFTWARE:
        raise RuntimeError(
            f"ncnn finds no GPU but {info.device_name()}, which runs on the CPU. Install the driver of the GPU, or measure "
            "without --on: a software device gives the same results everywhere"
        )
    return str(info.device_name())


def open(folder: Path, options: Mapping[str, Any], threads: int) -> Model:  # noqa: A001 - the contract's name
    """Open the artifact in a folder; `options` name its `files` (graph, weights), `input` and `outputs`, and say whether it runs with `vulkan`."""
    return Model(folder, options, threads)
