"""Which convolutions read maps that have to share one 8-bit range, read off the table of layers.

Maps that are joined, added or read by several convolutions share a range: some runtimes put the
rounding in front of a join and others behind it, and with one range both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from yolodeploy_torch.arch import (
    Arch,
    C2fLayer,
    ConcatLayer,
    ConvLayer,
    DetectLayer,
    Layer,
    SppfLayer,
    UpsampleLayer,
)


def ties(arch: Arch) -> dict[str, str]:
    """What every convolution reads, by the convolution's name, in order of execution.

    It is given as the name of one of the maps that share its range.
    """
    walk = _Walk()
    image = walk.map("image")
    maps: list[str] = []
    for row, layer in enumerate(arch.layers):
        sources = [image if source == -1 else maps[source] for source in layer.sources]
        maps.append(walk.layer(f"model.{row}", layer, sources))
    return {conv: walk.root(read) for conv, read in walk.reads.items()}


class _Walk:
    """Follows the table; a map's name is that of the convolution which makes it."""

    def __init__(self) -> None:
        self.reads: dict[str, str] = {}
        self._parent: dict[str, str] = {}

    def map(self, name: str) -> str:
        """A new map."""
        self._parent[name] = name
        return name

    def root(self, name: str) -> str:
        """The map that stands for all that share a range with this one."""
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def layer(self, name: str, layer: Layer, sources: list[str]) -> str:
        """Return what a row makes of the maps that it reads."""
        match layer:
            case ConvLayer():
                return self._unit(name, sources[0])
            case C2fLayer():
                return self._c2f(name, layer, sources[0])
            case SppfLayer():
                entry = self._unit(f"{name}.cv1", sources[0])
                return self._unit(f"{name}.cv2", entry)
            case UpsampleLayer():
                return sources[0]
            case ConcatLayer():
                return self._join(sources)
            case DetectLayer():
                return self._detect(name, layer, sources)
            case _:
                raise TypeError(f"unknown layer {layer!r}")

    def _unit(self, name: str, source: str) -> str:
        self.reads[f"{name}.conv"] = source
        return self.map(name)

    def _c2f(self, name: str, layer: C2fLayer, source: str) -> str:
        parts = [self._unit(f"{name}.cv1", source)]
        for number in range(len(layer.blocks)):
            inner = self._unit(f"{name}.m.{number}.cv1", parts[-1])
            parts.append(self._unit(f"{name}.m.{number}.cv2", inner))
        return self._unit(f"{name}.cv2", self._join(parts))

    def _detect(self, name: str, layer: DetectLayer, sources: list[str]) -> str:
        for branches, kind in ((layer.boxes, "cv2"), (layer.scores, "cv3")):
            for level, (_, source) in enumerate(zip(branches, sources, strict=True)):
                branch = f"{name}.{kind}.{level}"
                first = self._unit(f"{branch}.0", source)
                self.reads[f"{branch}.2"] = self._unit(f"{branch}.1", first)
        return sources[0]

    def _join(self, maps: list[str]) -> str:
        roots = [self.root(name) for name in maps]
        for root in roots:
            self._parent[root] = roots[0]
        return roots[0]


def by_tie(found: Mapping[str, str]) -> dict[str, list[str]]:
    """The convolutions that read the maps of each tie."""
    groups: dict[str, list[str]] = {}
    for conv, tie in found.items():
        groups.setdefault(tie, []).append(conv)
    return groups
