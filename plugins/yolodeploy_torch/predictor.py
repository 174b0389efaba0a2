"""The source model as a predictor, to compare every artifact with."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from yolodeploy.backend import Runtime
from yolodeploy_torch import folder
from yolodeploy_torch.compute import threads
from yolodeploy_torch.export import fused


class TorchPredictor:
    """Runs the fused model in float32 on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        self._model = fused(folder.read(path)).to(memory_format=torch.channels_last)
        self._threads = threads
        self.runtime = Runtime("PyTorch", torch.__version__, "CPU", threads)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map [N, 3, H, W] in 0..1 to [N, 4 + classes, anchors]."""
        with threads(self._threads), torch.inference_mode():
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            return cast("NDArray[np.float32]", self._model(batch).numpy())
