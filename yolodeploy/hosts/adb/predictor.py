"""An artifact on a device, as a predictor here: every batch is a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from yolodeploy.backend import NativeWork, Runtime
from yolodeploy.hosts.outputs import Expected, Floats
from yolodeploy.hosts.remote_predictor import pixels_of

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Layout, NativeResults, Outputs, Remote, Target
    from yolodeploy.hosts.adb.program import Program, Runnable

_BATCH = 16  # images of a job: starting one takes tenths of a second


class AdbPredictor:
    """An artifact that runs on a device, see `backend.Predictor`."""

    batch = _BATCH
    runtime: Runtime

    def __init__(
        self,
        plugin: Runnable,
        remote: Remote,
        runner: Program,
        model: tuple[Artifact, Target, int],
        host: str,
    ) -> None:
        self._plugin, self._remote, self._runner, self._model = plugin, remote, runner, model
        self._expected = Expected(remote, host)
        self.layout: Layout = remote.layout

    def __call__(self, images: Floats) -> Floats | Outputs:
        """Run `[N, channels, H, W]` images in 0..1 on the device; of images with 8-bit values the pixels are sent, once."""
        results = self._run(images, self._expected.size(len(images)))
        shapes = {name: array.shape for name, array in results.outputs.items()}
        self._expected.fit(shapes, len(images))
        self._expected.finite(results.outputs)
        return self._remote.finish(results.outputs)

    def version(self, shape: tuple[int, ...]) -> str:
        """The version of the runtime there, which one empty image tells."""
        return self._run(np.zeros((1, *shape), np.float32), self._expected.size(1)).version

    def _run(self, images: Floats, outputs: int | None = None) -> NativeResults:
        artifact, target, threads = self._model
        pixels = pixels_of(images)
        given = np.ascontiguousarray(images, "<f4") if pixels is None else pixels
        channels, height, width = images.shape[1:]
        work = NativeWork(
            mode="predict",
            artifacts=[artifact],
            target=target,
            shape=(channels, height, width),
            images=len(images),
            pixels="float32" if pixels is None else "uint8",
            threads=threads,
        )
        job = self._plugin.native_job(work)
        return self._runner.run(job, [each.tobytes() for each in given], outputs)
