"""How much a model computes, read off its table of layers."""

from __future__ import annotations

from pathlib import Path

from yolodeploy.backend import Counts, ModelInfo
from yolodeploy.system import ImageShape
from yolodeploy_torch.model.artifact import read_arch
from yolodeploy_torch.model.layers import structure

_SIDES = 4


def counts(path: Path, imgsz: ImageShape) -> Counts:
    """Parameters as trained (batch normalisation included), and the convolutions' operations.

    Activations, additions and pooling are left out, as in PyTorch's own FLOP counter. Raises
    StepFailed if the artifact in the folder `path` is damaged.
    """
    arch = read_arch(path)
    found = structure(arch)
    # the fixed convolution that turns the distribution of each box side into its mean
    decoding = (
        arch.reg_max
        * _SIDES
        * sum((imgsz.height // stride) * (imgsz.width // stride) for stride in arch.strides)
    )
    return Counts(
        ModelInfo.read(path).parameters, round(found.macs(found.sizes, imgsz.pixels)) + decoding
    )
