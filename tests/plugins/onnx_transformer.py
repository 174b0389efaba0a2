"""A small detector with a transformer, after RT-DETR (arXiv:2304.08069) and Deformable DETR (arXiv:2010.04159)."""

from __future__ import annotations

import torch
from onnx_networks import Body
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention over tokens [N, T, C]."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, of: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = (
            part.view(n, -1, self.heads, c // self.heads).transpose(1, 2)
            for part in (self.q(x), self.k(of), self.v(of))
        )
        weights = (q @ k.transpose(2, 3) * self.scale).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).reshape(n, t, c))


class Sampling(nn.Module):
    """Deformable cross attention: values of a map at places that the queries ask for."""

    def __init__(self, width: int, points: int = 4) -> None:
        super().__init__()
        self.points = points
        self.places, self.weights = nn.Linear(width, 2 * points), nn.Linear(width, points)
        self.o = nn.Linear(width, width)

    def forward(self, x: Tensor, reference: Tensor, of: Tensor) -> Tensor:
        n, q, _ = x.shape
        offsets = self.places(x).view(n, q, self.points, 2) * reference[:, :, None, 2:] * 0.5
        where = 2 * (reference[:, :, None, :2] + offsets) - 1
        taken = functional.grid_sample(
            of, where, mode="bilinear", align_corners=False
        )  # [N, C, Q, P]
        weighed = (taken * self.weights(x).softmax(-1)[:, None]).sum(-1)
        return self.o(weighed.transpose(1, 2))


class Transformer(nn.Module):
    """RT-DETR's kind: attention inside the coarsest map, the best cells as queries, a decoder.

    `sampled` takes GridSample (opset 16 and later) in the decoder, else ordinary attention. Outputs are boxes
    [N, Q, 4] as centre and size in shares of the image, and [N, Q, nc] logits, or scores.
    """

    def __init__(
        self, body: Body, nc: int, queries: int = 12, sampled: bool = True, logits: bool = True
    ) -> None:
        super().__init__()
        width = body.widths[2]
        self.body, self.queries, self.sampled, self.logits = body, queries, sampled, logits
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(6))
        self.inside, self.between = Attention(width), Attention(width)
        self.cross: nn.Module = Sampling(width) if sampled else Attention(width)
        self.feed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(2)
        )
        self.rank, self.name = nn.Linear(width, nc), nn.Linear(width, nc)
        self.place, self.box = nn.Linear(width, 4), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        top = self.body(x)[-1]
        n, c, height, width = top.shape
        tokens = top.flatten(2).transpose(1, 2)
        tokens = self.norms[0](tokens + self.inside(tokens, tokens))
        tokens = self.norms[1](tokens + self.feed[0](tokens))
        count = min(self.queries, height * width)
        best = self.rank(tokens).max(-1).values.topk(count, dim=1).indices[..., None]
        x = tokens.gather(1, best.expand(-1, -1, c))
        reference = self.place(x).sigmoid()
        x = self.norms[2](x + self.between(x, x))
        memory = tokens.transpose(1, 2).view(n, c, height, width)
        seen = self.cross(x, reference, memory) if self.sampled else self.cross(x, tokens)
        x = self.norms[3](x + seen)
        x = self.norms[4](x + self.feed[1](x))
        inverse = torch.log(reference.clamp(1e-5, 1 - 1e-5) / (1 - reference).clamp(1e-5))
        names = self.name(x)
        return (self.box(x) + inverse).sigmoid(), names if self.logits else names.sigmoid()
