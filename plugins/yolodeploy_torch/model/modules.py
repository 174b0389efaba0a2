"""YOLOv8 in plain PyTorch, built from a table of layers.

Implements the published architecture: C2f and SPPF blocks, and a decoupled anchor-free head whose box
sides are distributions (Generalized Focal Loss, https://arxiv.org/abs/2006.04388). The weights bear
the names of Ultralytics checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from yolodeploy_torch.model.arch import (
    AnyLayer,
    Arch,
    BlockSpec,
    BranchSpec,
    C2fLayer,
    ConcatLayer,
    ConvLayer,
    ConvSpec,
    DetectLayer,
    SppfLayer,
    UpsampleLayer,
)


class Conv(nn.Module):
    """Convolution, batch normalisation, activation; `bn` is an identity after fusing."""

    def __init__(self, spec: ConvSpec, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            spec.inputs, spec.outputs, spec.kernel, spec.stride, spec.kernel // 2, bias=False
        )
        self.bn: nn.Module = nn.BatchNorm2d(spec.outputs, eps=eps, momentum=0.03)
        self.act: nn.Module = nn.SiLU() if spec.act == "silu" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return cast("Tensor", self.act(self.bn(self.conv(x))))


class Block(nn.Module):
    """Two convolution units with an optional shortcut around them."""

    def __init__(self, spec: BlockSpec, eps: float) -> None:
        super().__init__()
        self.cv1 = Conv(spec.first, eps)
        self.cv2 = Conv(spec.second, eps)
        self.shortcut = spec.shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size of the map."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Cross-stage block: every intermediate result reaches the last convolution unit."""

    def __init__(self, spec: C2fLayer, eps: float) -> None:
        super().__init__()
        self.cv1 = Conv(spec.entry, eps)
        self.cv2 = Conv(spec.exit, eps)
        self.m = nn.ModuleList(Block(block, eps) for block in spec.blocks)
        self.split = list(spec.split)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size of the map."""
        parts = list(torch.split(self.cv1(x), self.split, dim=1))
        for block in self.m:
            parts.append(block(parts[-1]))
        return cast("Tensor", self.cv2(torch.cat(parts, dim=1)))


class Sppf(nn.Module):
    """Spatial pyramid pooling: one small pooling, repeated."""

    def __init__(self, spec: SppfLayer, eps: float) -> None:
        super().__init__()
        self.cv1 = Conv(spec.entry, eps)
        self.cv2 = Conv(spec.exit, eps)
        self.m = nn.MaxPool2d(spec.kernel, stride=1, padding=spec.kernel // 2)
        self.pools = spec.pools

    def forward(self, x: Tensor) -> Tensor:
        """Keep the size of the map."""
        maps = [self.cv1(x)]
        for _ in range(self.pools):
            maps.append(self.m(maps[-1]))
        return cast("Tensor", self.cv2(torch.cat(maps, dim=1)))


class Concat(nn.Module):
    """Join maps along the channels."""

    def forward(self, *maps: Tensor) -> Tensor:
        """Join [N, C_i, H, W] to [N, sum(C_i), H, W]."""
        return torch.cat(maps, dim=1)


class Expectation(nn.Module):
    """The mean of a distribution over `bins` distances, as a fixed 1x1 convolution."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.bins = bins

    def forward(self, logits: Tensor, batch: int, anchors: int) -> Tensor:
        """Map [N, 4 * bins, A] to the four mean distances [N, 4, A], in cells."""
        spread = logits.reshape(batch, 4, self.bins, anchors).transpose(1, 2).softmax(1)
        return cast("Tensor", self.conv(spread)).reshape(batch, 4, anchors)


class Detect(nn.Module):
    """The detection head, up to the logits."""

    def __init__(self, spec: DetectLayer, eps: float, reg_max: int) -> None:
        super().__init__()
        self.cv2 = nn.ModuleList(_branch(branch, eps) for branch in spec.boxes)
        self.cv3 = nn.ModuleList(_branch(branch, eps) for branch in spec.scores)
        self.dfl = Expectation(reg_max)

    def forward(self, *maps: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return per level the box logits [N, 4 * reg_max, h, w] and class logits [N, nc, h, w]."""
        boxes = [branch(x) for branch, x in zip(self.cv2, maps, strict=True)]
        scores = [branch(x) for branch, x in zip(self.cv3, maps, strict=True)]
        return boxes, scores


class Grid:
    """The anchor points of an image size: `points` [1, 2, A] in cells, `steps` [1, 1, A] in px."""

    def __init__(self, height: int, width: int, strides: Sequence[int]) -> None:
        points, steps = [], []
        for stride in strides:
            rows = torch.arange(height // stride, dtype=torch.float32) + 0.5
            columns = torch.arange(width // stride, dtype=torch.float32) + 0.5
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            points.append(torch.stack((x.flatten(), y.flatten())))
            steps.append(torch.full((1, x.numel()), float(stride)))
        self.points = torch.cat(points, dim=1)[None]
        self.steps = torch.cat(steps, dim=1)[None]


class Yolo(nn.Module):
    """A YOLOv8 detection model; `arch` is the table it was built from."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch
        self.model = nn.ModuleList(_module(layer, arch) for layer in arch.layers)

    @property
    def head(self) -> Detect:
        """The last layer."""
        return cast("Detect", self.model[-1])

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps [N, C_i, h, w] that the head reads, one per level."""
        maps: list[Tensor] = []
        for module, layer in zip(self.model[:-1], self.arch.layers[:-1], strict=True):
            maps.append(module(*_select(layer, maps, images)))
        return _select(self.arch.head, maps, images)

    def logits(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return per level the box logits and class logits (see `Detect`), for training."""
        heads = self.head(*self.features(images))
        return cast("tuple[list[Tensor], list[Tensor]]", heads)

    def decode(self, boxes: list[Tensor], scores: list[Tensor], grid: Grid, batch: int) -> Tensor:
        """Turn logits into [N, 4 + nc, A]: centre x, y, width, height in px, then scores in 0..1."""
        anchors = grid.points.shape[2]
        sides = torch.cat([level.flatten(2) for level in boxes], dim=2)
        classes = torch.cat([level.flatten(2) for level in scores], dim=2)
        before, after = self.head.dfl(sides, batch, anchors).split((2, 2), dim=1)
        centre = (after - before) * 0.5 + grid.points
        size = before + after
        box = torch.cat((centre, size), dim=1) * grid.steps
        return torch.cat((box, classes.sigmoid()), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] in 0..1 to [N, 4 + nc, A] as `decode` does."""
        batch, _, height, width = images.shape
        grid = Grid(height, width, self.arch.strides)
        return self.decode(*self.logits(images), grid, batch)


def _select(layer: AnyLayer, maps: Sequence[Tensor], image: Tensor) -> list[Tensor]:
    return [image if source == -1 else maps[source] for source in layer.sources]


def _branch(spec: BranchSpec, eps: float) -> nn.Sequential:
    last = nn.Conv2d(spec.second.outputs, spec.outputs, 1)
    return nn.Sequential(Conv(spec.first, eps), Conv(spec.second, eps), last)


def _module(layer: AnyLayer, arch: Arch) -> nn.Module:
    match layer:
        case ConvLayer():
            return Conv(layer.conv, arch.eps)
        case C2fLayer():
            return C2f(layer, arch.eps)
        case SppfLayer():
            return Sppf(layer, arch.eps)
        case UpsampleLayer():
            return nn.Upsample(scale_factor=float(layer.scale), mode="nearest")
        case ConcatLayer():
            return Concat()
        case DetectLayer():
            return Detect(layer, arch.eps, arch.reg_max)
