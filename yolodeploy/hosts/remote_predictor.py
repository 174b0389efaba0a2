"""An artifact that runs on a host, as a predictor here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from yolodeploy.backend import Remote, Runtime
from yolodeploy.errors import HostProblem
from yolodeploy.hosts.session import Session, typed

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs

_MOST_VALUES = 1 << 28  # float32 values that a model may return for one image
Floats = NDArray[np.float32]


class _Output(BaseModel):
    name: str
    shape: list[int]


class RemotePredictor:
    """An artifact opened on a host, see `backend.Predictor`."""

    def __init__(self, session: Session, remote: Remote, runtime: Runtime, batch: int) -> None:
        self._session, self._remote = session, remote
        self.layout: Layout = remote.layout
        self.batch, self.runtime = batch, runtime

    def __call__(self, images: Floats) -> Floats | Outputs:
        """Run `[N, channels, H, W]` images in 0..1 on the host; of images with 8-bit values the pixels are sent, once."""
        about: dict[str, Any] = {"name": "model", "shape": images.shape[1:]}
        pixels, blobs = _pixels(images), []
        if pixels is None:
            blobs = [np.ascontiguousarray(image, "<f4") for image in images]
        else:
            about["images"] = self._session.send([image.tobytes() for image in pixels])
        most = 4 * _MOST_VALUES * len(images)
        result, answers = self._session.ask("predict", about, blobs, most)
        return self._remote.finish(self._arrays(result, answers, len(images)))

    def _arrays(self, result: Any, blobs: list[bytes], count: int) -> dict[str, Floats]:
        """The arrays of an answer; HostProblem if they are not what was asked for."""
        told = typed(dict[str, list[_Output]], result, self.runtime.host).get("outputs", [])
        names = [each.name for each in told]
        fits = names == list(self._remote.outputs) and len(blobs) == len(told)
        for each, blob in zip(told, blobs, strict=False):
            fits = fits and len(each.shape) > 0 and each.shape[0] == count and min(each.shape) > 0
            fits = fits and 4 * math.prod(each.shape) == len(blob)
        if not fits:
            raise HostProblem(
                f"host `{self.runtime.host}`: the answer has other outputs than {', '.join(self._remote.outputs)} of "
                f"{count} image{'s' * (count != 1)}, so nothing that it said is used. Run again."
            )
        return {
            each.name: np.frombuffer(blob, "<f4").reshape(each.shape)
            for each, blob in zip(told, blobs, strict=True)
        }


def _pixels(images: Floats) -> NDArray[np.uint8] | None:
    """The 8-bit pixels of images in 0..1; None if they do not give these images back bit for bit."""
    pixels = np.rint(images * 255).clip(0, 255).astype(np.uint8)
    again = pixels.astype(np.float32) / np.float32(255)
    return pixels if np.array_equal(again, images) else None
