"""Prepare a model for export: batch normalisations folded, anchor points constant."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from yolodeploy.errors import PlanRefused
from yolodeploy.system import ImageShape
from yolodeploy_torch.model.artifact import read
from yolodeploy_torch.model.modules import Conv, Grid, Yolo
from yolodeploy_torch.model.runtime import threads


class Exportable(nn.Module):
    """A fused model for one image of one size, with its anchor points as constants."""

    def __init__(self, model: Yolo, imgsz: ImageShape) -> None:
        super().__init__()
        self.model = model
        self.grid = Grid(imgsz.height, imgsz.width, model.arch.strides)

    def forward(self, images: Tensor) -> Tensor:
        """Map [1, channels, height, width] in 0..1 to [1, 4 + nc, A]: xywh in px, scores in 0..1."""
        boxes, scores = self.model.logits(images)
        return self.model.decode(boxes, scores, self.grid, batch=1)


def exportable(folder: Path, imgsz: ImageShape) -> nn.Module:
    """Rebuild the artifact in `folder`, fused and in evaluation mode, for images of this size.

    Raises PlanRefused if a side is not a multiple of the coarsest stride.
    """
    model = read(folder)
    step = max(model.arch.strides)
    for side in (imgsz.height, imgsz.width):
        if side <= 0 or side % step:
            below = side // step * step
            nearest = f"{below} or {below + step}" if below > 0 else str(step)
            raise PlanRefused(
                f"imgsz: {side} is not a multiple of {step}, the coarsest stride of this model: use {nearest}."
            )
    return Exportable(fused(model), imgsz).eval()


def traced(folder: Path, imgsz: ImageShape) -> torch.jit.ScriptModule:
    """Trace `exportable` into TorchScript; its weights stay named parameters without gradients."""
    # One pass over small tensors: a second thread costs more than it saves.
    with warnings.catch_warnings(), threads(1), torch.no_grad():
        module = exportable(folder, imgsz)
        # PyTorch announces the end of TorchScript, but it is what the converters read.
        warnings.filterwarnings("ignore", message="`torch.jit", category=Warning)
        example = torch.zeros(imgsz.batch)
        script = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    return cast("torch.jit.ScriptModule", script)


def fused(model: Yolo) -> Yolo:
    """Fold every batch normalisation into its convolution, in place.

    Elementwise float64 arithmetic, rounded once to float32, gives the same bits on every CPU.
    """
    for module in model.modules():
        if isinstance(module, Conv) and isinstance(module.bn, nn.BatchNorm2d):
            module.conv = _folded(module.conv, module.bn)
            module.bn = nn.Identity()
    return model


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    mean, variance = cast("Tensor", bn.running_mean), cast("Tensor", bn.running_var)
    scale = bn.weight.double() / (variance.double() + bn.eps).sqrt()
    bias = bn.bias.double() - mean.double() * scale
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.weight = nn.Parameter(weight.float(), requires_grad=False)
    conv.bias = nn.Parameter(bias.float(), requires_grad=False)
    return conv
