"""An artifact that runs on a host, as a predictor here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Remote, Runtime
from yolodeploy.hosts.answers import Output, typed
from yolodeploy.hosts.outputs import Expected
from yolodeploy.hosts.session import Session

if TYPE_CHECKING:
    from yolodeploy.backend import Layout, Outputs

_VALUES_A_PIXEL, _VALUES = (
    64,
    1 << 18,
)  # that a model may return for one image: per pixel, and besides
Floats = NDArray[np.float32]


class RemotePredictor:
    """An artifact opened on a host, see `backend.Predictor`."""

    def __init__(self, session: Session, remote: Remote, runtime: Runtime, batch: int) -> None:
        self._session, self._remote = session, remote
        self._expected = Expected(remote, runtime.host)
        self.layout: Layout = remote.layout
        self.batch, self.runtime = batch, runtime

    def __call__(self, images: Floats) -> Floats | Outputs:
        """Run `[N, channels, H, W]` images in 0..1 on the host; of images with 8-bit values the pixels are sent, once."""
        pixels, size = pixels_of(images), _VALUES + _VALUES_A_PIXEL * math.prod(images.shape[2:])
        most = 4 * size * len(images)
        about: dict[str, Any] = {"name": "model", "shape": images.shape[1:]}
        if pixels is None:
            floats = [np.ascontiguousarray(image, "<f4") for image in images]
            result, answers = self._session.ask("predict", about, floats, most)
        else:
            blobs = [image.tobytes() for image in pixels]
            result, answers = self._session.ask_again(lambda: self._ask_kept(about, blobs, most))
        return self._remote.finish(self._arrays(result, answers, len(images)))

    def _ask_kept(
        self, about: Mapping[str, Any], blobs: Sequence[bytes], most: int
    ) -> tuple[Any, list[bytes]]:
        """Run images of pixels; those that the host does not keep yet travel in the same message."""
        digests, new = self._session.unsent(blobs)
        about = {**about, "images": digests, "digests": list(new)}
        found = self._session.ask("predict", about, list(new.values()), most)
        self._session.kept.update(new)
        return found

    def _arrays(self, result: Any, blobs: list[bytes], count: int) -> dict[str, Floats]:
        """The arrays of an answer; HostProblem if they are not what was asked for."""
        told = typed(dict[str, list[Output]], result, self.runtime.host).get("outputs", [])
        self._expected.fit({each.name: tuple(each.shape) for each in told}, count)
        sizes = [4 * math.prod(each.shape) for each in told]
        if sizes != [len(blob) for blob in blobs]:
            raise self._expected.refused("an output has another size than it says")
        arrays = {
            each.name: np.frombuffer(blob, "<f4").reshape(each.shape)
            for each, blob in zip(told, blobs, strict=True)
        }
        self._expected.finite(arrays)
        return arrays


def pixels_of(images: Floats) -> NDArray[np.uint8] | None:
    """The 8-bit pixels of images in 0..1; None if they do not give these images back bit for bit."""
    values = images * np.float32(255)
    np.rint(values, out=values)
    if not (values.min() >= 0 and values.max() <= 255):
        return None
    pixels = values.astype(np.uint8)
    np.divide(values, np.float32(255), out=values)
    return pixels if np.array_equal(values, images) else None
