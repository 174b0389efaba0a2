"""Prepare a model for export: batch normalisations folded, shapes and anchor points constant."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from yolodeploy.backend import ROWS
from yolodeploy.errors import PlanRefused
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Graph, OpenHead, build, fixed, graph_in
from yolodeploy_torch.model.artifact import read
from yolodeploy_torch.model.fusing import fused
from yolodeploy_torch.model.merging import merged
from yolodeploy_torch.model.runtime import threads
from yolodeploy_torch.model.top_k import best_rows

Given = Tensor | tuple[Tensor, ...]  # one output, or several


class Exportable(nn.Module):
    """A fused model for images of one size, with its anchor points as constants."""

    def __init__(self, network: GraphModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Given:
        """Map [N, channels, height, width] in 0..1 to the raw output, or to a tuple of all in their order.

        The output of a detector is [N, 4 + nc, A]: xywh in px, scores in 0..1.
        """
        made = cast("tuple[Tensor, ...]", self.network(images))
        return made if len(made) > 1 else made[0]


class ExportableRows(Exportable):
    """The same for a head that gives no duplicates: its best findings, in rows.

    The network gives boxes as rows have them, scores, extras unless it is a plain detector, and its other outputs.
    """

    def __init__(self, network: GraphModule, *, extras: bool = False) -> None:
        super().__init__(network)
        self._extras = extras

    def forward(self, images: Tensor) -> Given:
        """Map [N, channels, height, width] to [N, 300, 6 + E]: x1, y1, x2, y2 in px, score, class, extras; best first.

        Other outputs stand behind it in a tuple.
        """
        corners, probabilities, *rest = self.network(images)
        extras = rest.pop(0) if self._extras else None
        rows = best_rows(corners, probabilities, ROWS, extras)
        return (rows, *rest) if rest else rows


class ExportableOpenRows(Exportable):
    """The same for a detector of whose head only the output is known."""

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, channels, height, width] to [N, 300, 6], as `ExportableRows` does."""
        output = self.network(images)[0]
        centre, half, probabilities = output[:, :2], output[:, 2:4] / 2, output[:, 4:]
        corners = torch.cat([centre - half, centre + half], 1)
        return best_rows(corners, probabilities, ROWS)


def exportable(folder: Path, imgsz: ImageShape, batch: int = 1, *, rows: bool = False) -> nn.Module:
    """Rebuild the artifact in `folder`, fused and in evaluation mode, for images of this size.

    With `rows` a model with a one-to-one head gives its best findings; other models do not. Raises PlanRefused if
    a side is not a multiple of the coarsest stride, or the graph is for images of another size.
    """
    model = fused_module(read(folder))
    graph = graph_in(model)
    _require_size(imgsz, graph)
    if not _ends_in_rows(graph, rows):
        return Exportable(fixed(model, tuple(graph.outputs.values()), imgsz, batch)).eval()
    if isinstance(graph.head, OpenHead):
        return ExportableOpenRows(fixed(model, (graph.output,), imgsz, batch)).eval()
    values = (*graph.branch.rows, *tuple(graph.outputs.values())[1:])
    extras = graph.branch.decoded is not None
    return ExportableRows(fixed(model, values, imgsz, batch), extras=extras).eval()


def traced(
    folder: Path, imgsz: ImageShape, batch: int = 1, *, rows: bool = False
) -> torch.jit.ScriptModule:
    """Trace `exportable` into TorchScript; its weights stay named parameters without gradients."""
    # One pass over small tensors: a second thread costs more than it saves.
    with warnings.catch_warnings(), threads(1), torch.no_grad():
        module = exportable(folder, imgsz, batch, rows=rows)
        # PyTorch announces the end of TorchScript, but it is what the converters read.
        warnings.filterwarnings("ignore", message="`torch.jit", category=Warning)
        # The number of anchors becomes a constant of the trace, as it should: the size is fixed.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        example = torch.zeros(batch, *imgsz.batch[1:])
        script = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    return cast("torch.jit.ScriptModule", script)


def fused_module(model: GraphModule) -> GraphModule:
    """The same model with parallel convolutions merged and every batch normalisation folded into its convolution."""
    return build(*fused(*merged(graph_in(model), model.state_dict())))


def _ends_in_rows(graph: Graph, rows: bool) -> bool:
    """Whether rows are asked for and can be made: of an open head what the task adds to them is not told from scores."""
    open_ = isinstance(graph.head, OpenHead) and graph.task != "detect"
    return rows and graph.selected == "one-to-one" and not open_


def _require_size(imgsz: ImageShape, graph: Graph) -> None:
    size = graph.size
    if size and size != (imgsz.height, imgsz.width):
        height, width = size
        raise PlanRefused(
            f"imgsz: the model is for images of {height} x {width} pixels alone (height x width), and "
            f"{imgsz.height} x {imgsz.width} are asked for. Write imgsz: [{height}, {width}]."
        )
    step = max(graph.head.strides)
    for side in (imgsz.height, imgsz.width):
        if side <= 0 or side % step:
            below = side // step * step
            nearest = f"{below} or {below + step}" if below > 0 else str(step)
            raise PlanRefused(
                f"imgsz: {side} is not a multiple of {step}, the coarsest stride of this model: use {nearest}."
            )
