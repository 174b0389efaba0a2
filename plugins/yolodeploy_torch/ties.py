"""Which convolutions read maps that have to share one 8-bit range, read off the table of layers.

Maps that are joined, added or read by several convolutions share a range: some runtimes put the
rounding in front of a join and others behind it, and with one range both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolodeploy_torch.arch import (
    Arch,
    BranchSpec,
    C2fLayer,
    ConcatLayer,
    ConvLayer,
    ConvSpec,
    DetectLayer,
    Layer,
    SppfLayer,
    UpsampleLayer,
)

SILU_LEAST = -0.2784645  # the least value of x / (1 + exp(-x)), at x = -1.2784645


@dataclass(frozen=True)
class Tie:
    """Maps that share a range: its name, and the least value that any of them can have.

    `least` is 0 for the image, and minus infinity where nothing is known.
    """

    name: str
    least: float


def ties(arch: Arch) -> dict[str, Tie]:
    """What every convolution reads, by the convolution's name, in order of execution."""
    walk = _Walk()
    image = walk.map("image", 0.0)
    maps: list[str] = []
    for row, layer in enumerate(arch.layers):
        sources = [image if source == -1 else maps[source] for source in layer.sources]
        maps.append(walk.layer(f"model.{row}", layer, sources))
    return {conv: walk.tie(read) for conv, read in walk.reads.items()}


class _Walk:
    """Follows the table; a map's name is that of the convolution which makes it."""

    def __init__(self) -> None:
        self.reads: dict[str, str] = {}
        self._parent: dict[str, str] = {}
        self._least: dict[str, float] = {}

    def map(self, name: str, least: float) -> str:
        """A new map."""
        self._parent[name], self._least[name] = name, least
        return name

    def tie(self, name: str) -> Tie:
        """The maps that share a range with this one."""
        root = self._root(name)
        return Tie(root, self._least[root])

    def layer(self, name: str, layer: Layer, sources: list[str]) -> str:
        """Return what a row makes of the maps that it reads."""
        match layer:
            case ConvLayer():
                return self._unit(name, layer.conv, sources[0])
            case C2fLayer():
                return self._c2f(name, layer, sources[0])
            case SppfLayer():
                entry = self._unit(f"{name}.cv1", layer.entry, sources[0])
                return self._unit(f"{name}.cv2", layer.exit, entry)
            case UpsampleLayer():
                return sources[0]
            case ConcatLayer():
                return self._join(sources)
            case DetectLayer():
                return self._detect(name, layer, sources)
            case _:
                raise TypeError(f"unknown layer {layer!r}")

    def _unit(self, name: str, spec: ConvSpec, source: str) -> str:
        self.reads[f"{name}.conv"] = source
        return self.map(name, SILU_LEAST if spec.act == "silu" else float("-inf"))

    def _c2f(self, name: str, layer: C2fLayer, source: str) -> str:
        parts = [self._unit(f"{name}.cv1", layer.entry, source)]
        least = self._least[parts[0]]
        for number, block in enumerate(layer.blocks):
            inner = self._unit(f"{name}.m.{number}.cv1", block.first, parts[-1])
            made = self._unit(f"{name}.m.{number}.cv2", block.second, inner)
            least = self._least[made] + (least if block.shortcut else 0.0)
            self._least[made] = least
            parts.append(made)
        return self._unit(f"{name}.cv2", layer.exit, self._join(parts))

    def _detect(self, name: str, layer: DetectLayer, sources: list[str]) -> str:
        for branches, kind in ((layer.boxes, "cv2"), (layer.scores, "cv3")):
            for level, (branch, source) in enumerate(zip(branches, sources, strict=True)):
                self._branch(f"{name}.{kind}.{level}", branch, source)
        return sources[0]

    def _branch(self, name: str, branch: BranchSpec, source: str) -> None:
        first = self._unit(f"{name}.0", branch.first, source)
        self.reads[f"{name}.2"] = self._unit(f"{name}.1", branch.second, first)

    def _join(self, maps: list[str]) -> str:
        roots = [self._root(name) for name in maps]
        self._least[roots[0]] = min(self._least[root] for root in roots)
        for root in roots[1:]:
            self._parent[root] = roots[0]
        return roots[0]

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name


def by_tie(found: Mapping[str, Tie]) -> dict[str, list[str]]:
    """The convolutions that read the maps of each tie."""
    groups: dict[str, list[str]] = {}
    for conv, tie in found.items():
        groups.setdefault(tie.name, []).append(conv)
    return groups
