"""Run a model with PyTorch as a predictor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yolodeploy.backend import OUTPUT, PROTOTYPES, Outputs, Runtime


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchPredictor:
    """Runs a model in float32 on a device."""

    def __init__(self, model: nn.Module, threads: int, device: str = "cpu") -> None:
        self._model = model.to(memory_format=torch.channels_last)
        self._threads, self._device = threads, device
        self.runtime = Runtime("PyTorch", torch.__version__, device.upper(), threads)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Map [N, channels, H, W] in 0..1 to the raw output [N, ...], of several outputs to a mapping by name.

        Of a detector it is [N, 4 + classes, anchors].
        """
        with threads(self._threads), torch.inference_mode():
            batch = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
            made = self._model(batch)
            if not isinstance(made, tuple):
                return _array(made)
            return dict(zip((OUTPUT, PROTOTYPES), map(_array, made), strict=True))


def _array(value: Tensor) -> NDArray[np.float32]:
    return cast("NDArray[np.float32]", value.float().cpu().numpy())
