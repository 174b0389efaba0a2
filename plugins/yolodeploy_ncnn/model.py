"""An artifact in memory: its graph, its weights, and the part of every convolution."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.compress import LAYERS_FILE, carry_layers, read_layers
from yolodeploy.errors import StepFailed
from yolodeploy_ncnn import bin_file, param_file
from yolodeploy_ncnn.bin_file import BIN_FILE, Block
from yolodeploy_ncnn.layers import WEIGHTED
from yolodeploy_ncnn.param_file import PARAM_FILE, Graph

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact
    from yolodeploy.compress import Part

FORMS: Mapping[int, str] = {
    bin_file.FP32: "fp32",
    bin_file.FP16: "fp16",
    bin_file.INT8: "int8",
    bin_file.CODEBOOK: "8-bit codebook",
}


@dataclass(frozen=True)
class Model:
    """A `.param` and a `.bin` file that fit together."""

    folder: Path
    graph: Graph
    data: bytes
    blocks: tuple[Block, ...]

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The part of every layer with weights, by name; StepFailed if one of the graph has none."""
        found = read_layers(self.folder)
        for name in self.kernels:
            if name not in found:
                raise StepFailed(
                    f"{self.folder / LAYERS_FILE} does not name {name[:60]}, a layer of the graph. The "
                    "file is damaged; build it again."
                )
        return found

    @cached_property
    def kernels(self) -> Mapping[str, Block]:
        """The weights of every convolution and matrix, by name, in order of the graph."""
        return {
            block.layer.name: block
            for block in self.blocks
            if block.tagged and block.layer.type in WEIGHTED
        }

    def forms(self) -> dict[str, str]:
        """How the weights of every layer are stored, by name."""
        return {name: FORMS[block.tag] for name, block in self.kernels.items()}

    def blocks_of(self, layer: str) -> list[Block]:
        """All blocks of a layer: its weights, then its bias, then its scales, as far as it has them."""
        return [block for block in self.blocks if block.layer.name == layer]

    def write(
        self,
        folder: Path,
        layers: Mapping[str, bytes],
        params: Mapping[str, Mapping[int, str]] | None = None,
    ) -> None:
        """Write the artifact with all blocks of some `layers` replaced, and `params` added to layers."""
        (folder / BIN_FILE).write_bytes(bin_file.replaced(self.data, self.blocks, layers))
        if params:
            changed = (la.with_params(params.get(la.name, {})) for la in self.graph.layers)
            param_file.write(Graph(tuple(changed)), folder / PARAM_FILE)
        else:
            shutil.copyfile(self.folder / PARAM_FILE, folder / PARAM_FILE)
        carry_layers(self.folder, folder)


def read(artifact: Artifact) -> Model:
    """Read an artifact; StepFailed if its files are damaged or do not belong together."""
    graph, source = param_file.read(artifact.path / PARAM_FILE), artifact.path / BIN_FILE
    try:
        data = source.read_bytes()
        return Model(artifact.path, graph, data, tuple(bin_file.blocks(graph, data)))
    except (OSError, ValueError) as error:
        raise StepFailed(f"{source}: {error}. The file is damaged; build it again.") from error
