"""How much a model computes, read off its table of layers."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from yolodeploy.backend import ModelInfo
from yolodeploy.counts import Counts
from yolodeploy.errors import StepFailed
from yolodeploy_torch.arch import Arch, Unsupported
from yolodeploy_torch.channels import channels
from yolodeploy_torch.folder import ARCH_FILE

_SIDES = 4


def counts(path: Path, imgsz: int) -> Counts:
    """Parameters as trained (batch normalisation included), and the convolutions' operations.

    Activations, additions and pooling are left out, as in PyTorch's own FLOP counter. Raises
    StepFailed if the artifact in the folder `path` is damaged.
    """
    try:
        arch = Arch.model_validate_json((path / ARCH_FILE).read_bytes())
        found = channels(arch)
    except (OSError, Unsupported, ValidationError) as error:
        raise StepFailed(f"{path} is damaged: {error}. Build it again.") from error
    macs = round(found.macs(found.sizes, imgsz**2)) + _decoding(arch, imgsz)
    return Counts(ModelInfo.read(path).parameters, macs)


def _decoding(arch: Arch, imgsz: int) -> int:
    """The fixed convolution that turns the distribution of each box side into its mean."""
    return arch.reg_max * _SIDES * sum((imgsz // stride) ** 2 for stride in arch.strides)
