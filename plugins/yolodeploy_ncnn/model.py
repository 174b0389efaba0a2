"""An artifact in memory: its graph, its weights, and the place of every convolution."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.errors import StepFailed
from yolodeploy_ncnn import bin_file, param_file
from yolodeploy_ncnn.bin_file import BIN_FILE, Block
from yolodeploy_ncnn.layers import CONVOLUTIONS, Place, places
from yolodeploy_ncnn.param_file import PARAM_FILE, Graph

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact

_FORMS: Mapping[int, str] = {
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
    def places(self) -> Mapping[str, Place]:
        """The place of every convolution, by the name of its layer, in order of the graph."""
        return places(self.graph)

    @cached_property
    def kernels(self) -> Mapping[str, Block]:
        """The weights of every convolution, by the name of its layer, in order of the graph."""
        return {
            block.layer.name: block
            for block in self.blocks
            if block.tagged and block.layer.type in CONVOLUTIONS
        }

    @cached_property
    def layers(self) -> Mapping[str, str]:
        """The name of every convolution's layer, by its name in the checkpoint."""
        return {self.places[layer].name: layer for layer in self.kernels}

    def forms(self) -> dict[str, str]:
        """How every convolution is stored, by its name in the checkpoint."""
        return {name: _FORMS[self.kernels[layer].tag] for name, layer in self.layers.items()}

    def blocks_of(self, layer: str) -> list[Block]:
        """All blocks of a layer: its weights, then its bias, then its scales, as far as it has them."""
        return [block for block in self.blocks if block.layer.name == layer]

    def write(
        self, folder: Path, layers: Mapping[str, bytes], params: Mapping[int, str] | None = None
    ) -> None:
        """Write the artifact with all blocks of some `layers` replaced, and `params` added to these."""
        (folder / BIN_FILE).write_bytes(bin_file.replaced(self.data, self.blocks, layers))
        if params:
            param_file.write(self.graph.with_params(params, layers), folder / PARAM_FILE)
        else:
            shutil.copyfile(self.folder / PARAM_FILE, folder / PARAM_FILE)


def read(artifact: Artifact) -> Model:
    """Read an artifact; StepFailed if its files are damaged or do not belong together."""
    graph, source = param_file.read(artifact.path / PARAM_FILE), artifact.path / BIN_FILE
    try:
        data = source.read_bytes()
        return Model(artifact.path, graph, data, tuple(bin_file.blocks(graph, data)))
    except (OSError, ValueError) as error:
        raise StepFailed(f"{source}: {error}. The file is damaged; build it again.") from error
