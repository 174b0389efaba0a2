"""Small detectors of other projects' kinds, in PyTorch, written from the papers that describe them.

YOLOX (arXiv:2107.08430), YOLOv5 (its published architecture diagrams), YOLOv7 (arXiv:2207.02696), YOLO-NAS and DAMO-YOLO
(arXiv:2211.15444), with RepVGG (arXiv:2101.03697).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))  # fmt: skip
STRIDES = (8, 16, 32)
BINS = 8  # of a distribution of distances
Activation = Callable[[], nn.Module]


def leaky() -> nn.Module:
    """The activation of YOLOv7-tiny and of YOLOv5 before 4.0."""
    return nn.LeakyReLU(0.1)


class Conv(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(
        self, inner: int, outer: int, k: int = 1, s: int = 1, act: Activation = nn.SiLU
    ) -> None:
        norm = nn.BatchNorm2d(outer, eps=1e-3)
        super().__init__(nn.Conv2d(inner, outer, k, s, (k - 1) // 2, bias=False), norm, act())


class Focus(nn.Module):
    """Every second pixel of rows and columns, as four images over each other."""

    def __init__(self, outer: int, act: Activation) -> None:
        super().__init__()
        self.conv = Conv(12, outer, 3, act=act)

    def forward(self, x: Tensor) -> Tensor:
        parts = (
            x[..., ::2, ::2],
            x[..., 1::2, ::2],
            x[..., ::2, 1::2],
            x[..., 1::2, 1::2],
        )
        return self.conv(torch.cat(parts, 1))


class Csp(nn.Module):
    """Cross stage partial bottlenecks: half of the channels go past them."""

    def __init__(
        self, inner: int, outer: int, act: Activation, n: int = 1, add: bool = True
    ) -> None:
        super().__init__()
        half = outer // 2
        self.one, self.two = Conv(inner, half, act=act), Conv(inner, half, act=act)
        self.last, self.add = Conv(2 * half, outer, act=act), add
        self.blocks = nn.ModuleList(
            nn.Sequential(Conv(half, half, act=act), Conv(half, half, 3, act=act)) for _ in range(n)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        for block in self.blocks:
            y = y + block(y) if self.add else block(y)
        return self.last(torch.cat((y, self.two(x)), 1))


class Elan(nn.Module):
    """YOLOv7's aggregation: every second of a chain of convolutions, over each other."""

    def __init__(
        self, inner: int, outer: int, act: Activation, n: int = 4, add: bool = True
    ) -> None:
        super().__init__()
        half = max(outer // 2, 4)
        self.one, self.two = Conv(inner, half, act=act), Conv(inner, half, act=act)
        self.chain = nn.ModuleList(Conv(half, half, 3, act=act) for _ in range(max(n, 2)))
        self.last = Conv(half * (2 + len(self.chain) // 2), outer, act=act)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.one(x), self.two(x)]
        y = found[1]
        for number, conv in enumerate(self.chain):
            y = conv(y)
            if number % 2:
                found.append(y)
        return self.last(torch.cat(found, 1))


class Plain(nn.Module):
    """RepVGG as it is exported: a 3x3 convolution with a bias, and ReLU."""

    def __init__(
        self, inner: int, outer: int, act: Activation, n: int = 1, add: bool = True
    ) -> None:
        super().__init__()
        convs = [nn.Conv2d(inner if not i else outer, outer, 3, 1, 1) for i in range(n)]
        self.blocks = nn.ModuleList(nn.Sequential(conv, act()) for conv in convs)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Halve(nn.Module):
    """YOLOv7's way to half the size: by the largest and by a convolution, over each other."""

    def __init__(self, inner: int, outer: int, act: Activation) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.MaxPool2d(2, 2), Conv(inner, outer // 2, act=act))
        self.conv = nn.Sequential(
            Conv(inner, outer // 2, act=act), Conv(outer // 2, outer // 2, 3, 2, act)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.conv(x), self.pool(x)), 1)


class Pyramid(nn.Module):
    """Spatial pyramid pooling: side by side (5, 9, 13), or three times 5 in a row."""

    def __init__(self, channels: int, act: Activation, row: bool) -> None:
        super().__init__()
        half = channels // 2
        self.one, self.two, self.row = (
            Conv(channels, half, act=act),
            Conv(4 * half, channels, act=act),
            row,
        )
        sizes = (5, 5, 5) if row else (5, 9, 13)
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in sizes)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.one(x)]
        for pool in self.pools:
            found.append(pool(found[-1] if self.row else found[0]))
        return self.two(torch.cat(found, 1))


class Body(nn.Module):
    """Backbone and path aggregation: maps of strides 8, 16 and 32 with `widths` channels."""

    def __init__(
        self,
        stem: nn.Module,
        width: int,
        block: Any = Csp,
        act: Activation = nn.SiLU,
        halve: Any = None,
        row: bool = True,
    ) -> None:
        super().__init__()
        down = halve or (lambda inner, outer, act: Conv(inner, outer, 3, 2, act))
        w = self.widths = (2 * width, 3 * width, 4 * width)
        self.stem = stem
        chain = (width, width, *w)
        self.stages = nn.ModuleList(
            nn.Sequential(down(a, b, act), block(b, b, act, 2)) for a, b in pairwise(chain)
        )
        self.pool = Pyramid(w[2], act, row)
        self.lateral = nn.ModuleList((Conv(w[2], w[1], act=act), Conv(w[1], w[0], act=act)))
        self.up = nn.ModuleList(
            (block(2 * w[1], w[1], act, 1, False), block(2 * w[0], w[0], act, 1, False))
        )
        self.down = nn.ModuleList((down(w[0], w[0], act), down(w[1], w[1], act)))
        self.out = nn.ModuleList(
            (block(2 * w[0], w[1], act, 1, False), block(2 * w[1], w[2], act, 1, False))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        top = self.lateral[0](self.pool(x))
        middle = self.up[0](torch.cat((functional.interpolate(top, scale_factor=2.0), found[2]), 1))
        side = self.lateral[1](middle)
        low = self.up[1](torch.cat((functional.interpolate(side, scale_factor=2.0), found[1]), 1))
        two = self.out[0](torch.cat((self.down[0](low), side), 1))
        return [low, two, self.out[1](torch.cat((self.down[1](two), top), 1))]


def grid(height: int, width: int) -> Tensor:
    """Cells [height, width, 2] as x, y."""
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((xs, ys), -1).float()


class YoloxHead(nn.Module):
    """Decoupled: boxes and objectness from one branch, classes from another; [N, A, 5 + nc]."""

    def __init__(self, widths: tuple[int, ...], nc: int, decoded: bool) -> None:
        super().__init__()
        inner = widths[0]
        self.decoded = decoded
        self.stems = nn.ModuleList(Conv(w, inner) for w in widths)
        self.branches = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(Conv(inner, inner, 3), Conv(inner, inner, 3)) for _ in range(2)
            )
            for _ in widths
        )
        self.last = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(inner, n, 1) for n in (4, 1, nc)) for _ in widths
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        found = []
        for x, stem, branch, last in zip(maps, self.stems, self.branches, self.last, strict=True):
            y = stem(x)
            boxes, classes = branch[0](y), branch[1](y)
            values = (last[0](boxes), last[1](boxes).sigmoid(), last[2](classes).sigmoid())
            found.append(torch.cat(values, 1))
        output = torch.cat([x.flatten(2) for x in found], 2).permute(0, 2, 1)
        if not self.decoded:
            return output
        cells = torch.cat([grid(*x.shape[2:]).view(-1, 2) for x in found])[None].to(output.dtype)
        steps = torch.cat(
            [torch.full((1, x.shape[2] * x.shape[3], 1), float(s)) for x, s in zip(found, STRIDES, strict=True)],
            1,
        ).to(output.dtype)  # fmt: skip
        centres = (output[..., :2] + cells) * steps
        return torch.cat((centres, torch.exp(output[..., 2:4]) * steps, output[..., 4:]), -1)


class AnchorHead(nn.Module):
    """YOLOv5's and v7's: three anchors per cell; `outputs` is decoded, raw, or both."""

    def __init__(self, widths: tuple[int, ...], nc: int, outputs: str, implicit: bool) -> None:
        super().__init__()
        self.values, self.outputs, self.implicit = 5 + nc, outputs, implicit
        self.last = nn.ModuleList(nn.Conv2d(w, 3 * self.values, 1) for w in widths)
        if implicit:  # YOLOR's (arXiv:2105.04206) knowledge, added before and multiplied after
            self.before = nn.ParameterList(torch.randn(1, w, 1, 1) * 0.1 for w in widths)
            self.after = nn.ParameterList(
                1 + torch.randn(1, 3 * self.values, 1, 1) * 0.1 for _ in widths
            )
        for number, pairs in enumerate(ANCHORS):
            self.register_buffer(f"anchors{number}", torch.tensor(pairs).view(1, 3, 1, 1, 2) * 1.0)

    def forward(self, maps: list[Tensor]) -> Any:
        raw, found = [], []
        for number, (x, last) in enumerate(zip(maps, self.last, strict=True)):
            y = last(x + self.before[number]) * self.after[number] if self.implicit else last(x)
            n, _, height, width = y.shape
            y = y.view(n, 3, self.values, height, width).permute(0, 1, 3, 4, 2).contiguous()
            raw.append(y)
            p = y.sigmoid()
            cells = grid(height, width).view(1, 1, height, width, 2).to(p.dtype)
            xy = (p[..., :2] * 2 - 0.5 + cells) * STRIDES[number]
            wh = (p[..., 2:4] * 2) ** 2 * getattr(self, f"anchors{number}")
            found.append(torch.cat((xy, wh, p[..., 4:]), -1).view(n, -1, self.values))
        decoded = torch.cat(found, 1)
        return {"decoded": decoded, "raw": tuple(raw), "both": (decoded, *raw)}[self.outputs]


class CornerHead(nn.Module):
    """YOLO-NAS and DAMO-YOLO: distances to four sides from distributions; corners in px, and scores."""

    def __init__(self, widths: tuple[int, ...], nc: int, boxes_first: bool) -> None:
        super().__init__()
        self.boxes_first = boxes_first
        self.boxes = nn.ModuleList(nn.Conv2d(w, 4 * BINS, 1) for w in widths)
        self.classes = nn.ModuleList(nn.Conv2d(w, nc, 1) for w in widths)
        self.register_buffer("bins", torch.arange(BINS).view(1, 1, 1, BINS) * 1.0)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        boxes, scores = [], []
        for x, box, name, stride in zip(maps, self.boxes, self.classes, STRIDES, strict=True):
            n, _, height, width = x.shape
            shares = box(x).flatten(2).permute(0, 2, 1).reshape(n, height * width, 4, BINS)
            sides = (shares.softmax(-1) * self.bins).sum(-1) * stride
            centres = ((grid(height, width).view(1, -1, 2) + 0.5) * stride).to(x.dtype)
            boxes.append(torch.cat((centres - sides[..., :2], centres + sides[..., 2:]), -1))
            scores.append(name(x).flatten(2).permute(0, 2, 1).sigmoid())
        found = torch.cat(boxes, 1), torch.cat(scores, 1)
        return found if self.boxes_first else found[::-1]


class Detector(nn.Module):
    """A body and a head."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x))


class Rows(nn.Module):
    """Ends a head of corners in the best rows: x1, y1, x2, y2, score, class."""

    def __init__(self, inner: nn.Module, count: int) -> None:
        super().__init__()
        self.inner, self.count = inner, count

    def forward(self, x: Tensor) -> Tensor:
        boxes, scores = self.inner(x)
        nc = scores.shape[2]
        best = scores.flatten(1).topk(self.count, dim=1)
        which = torch.div(best.indices, nc, rounding_mode="floor")
        taken = boxes.gather(1, which[..., None].expand(-1, -1, 4))
        name = (best.indices % nc)[..., None].to(boxes.dtype)
        return torch.cat((taken, best.values[..., None], name), -1)


class Halved(nn.Module):
    """A model in float16 between an input and outputs in float32, as some tools write it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.half()

    def forward(self, x: Tensor) -> Any:
        found = self.inner(x.half())
        return tuple(each.float() for each in found) if isinstance(found, tuple) else found.float()
