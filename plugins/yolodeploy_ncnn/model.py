"""An artifact in memory: graph, weights, and the place of every convolution."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.errors import StepFailed
from yolodeploy_ncnn import param, weights
from yolodeploy_ncnn.export import BIN_FILE, PARAM_FILE
from yolodeploy_ncnn.structure import CONVOLUTIONS, Place, places

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact

_FORMS: Mapping[int, str] = {
    weights.FP32: "fp32",
    weights.FP16: "fp16",
    weights.INT8: "int8",
    weights.CODEBOOK: "8-bit codebook",
}


@dataclass(frozen=True)
class Model:
    """A `.param` and a `.bin` file that fit together."""

    folder: Path
    graph: param.Graph
    data: bytes
    blocks: tuple[weights.Block, ...]

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """The place of every convolution, by the name of its layer, in order of the graph."""
        return places(self.graph)

    @cached_property
    def kernels(self) -> Mapping[str, weights.Block]:
        """The weights of every convolution, by the name of its layer, in order of the graph."""
        return {
            block.layer.name: block
            for block in self.blocks
            if block.tagged and block.layer.type in CONVOLUTIONS
        }

    def forms(self) -> dict[str, str]:
        """How every convolution is stored, by its name in the checkpoint."""
        return {self.places[name].name: _FORMS[block.tag] for name, block in self.kernels.items()}

    def write(
        self, folder: Path, layers: Mapping[str, bytes], params: Mapping[int, str] | None = None
    ) -> None:
        """Write the artifact with all blocks of some layers replaced, and parameters given to them."""
        (folder / BIN_FILE).write_bytes(weights.replaced(self.data, self.blocks, layers))
        if not params:
            shutil.copyfile(self.folder / PARAM_FILE, folder / PARAM_FILE)
            return
        graph = param.Graph(
            tuple(
                layer.with_params(params) if layer.name in layers else layer
                for layer in self.graph.layers
            )
        )
        (folder / PARAM_FILE).write_bytes(param.write(graph).encode("ascii"))


def read(artifact: Artifact) -> Model:
    """Read an artifact; StepFailed where its files are damaged or do not belong together."""
    graph, source = param.read(artifact.path / PARAM_FILE), artifact.path / BIN_FILE
    try:
        data = source.read_bytes()
        return Model(artifact.path, graph, data, tuple(weights.blocks(graph, data)))
    except (OSError, ValueError) as error:
        raise StepFailed(f"{source.name}: {error}. The file is damaged; build it again.") from error
