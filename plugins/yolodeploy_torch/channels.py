"""Which channels of a model must be cut together, read off the table of layers.

A group is a run of channels that several convolutions make or read: those of a shortcut's sum, or
of one convolution alone. Cutting a channel of a group cuts it everywhere (the dependency graph of
DepGraph, Fang et al., https://arxiv.org/abs/2301.12900, which needs no tracing here because the
table holds the whole structure).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from yolodeploy_torch.arch import (
    Arch,
    BlockSpec,
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


@dataclass(eq=False)
class Group:
    """Channels that are cut together. `fixed` ones are the image's and the head's outputs."""

    name: str
    size: int
    fixed: bool = False


Groups = tuple[Group, ...]


@dataclass(frozen=True)
class Use:
    """A convolution: the groups of its input and output channels in order, and its cost.

    `taps` are the weights per pair of an input and an output channel, `stride` the pixels of the
    image per cell and side of the output.
    """

    inputs: Groups
    outputs: Groups
    taps: int
    stride: int


@dataclass
class Channels:
    """The groups of a model and the convolutions by name of their module."""

    groups: list[Group] = field(default_factory=list)
    uses: dict[str, Use] = field(default_factory=dict)

    def macs(self, sizes: Mapping[Group, int], pixels: int) -> float:
        """Multiply-accumulates of one image of so many pixels, with these sizes of the groups."""
        return pixels * sum(
            use.taps / use.stride**2 * _total(use.inputs, sizes) * _total(use.outputs, sizes)
            for use in self.uses.values()
        )

    def weights(self, sizes: Mapping[Group, int]) -> float:
        """Weights of all convolutions, with these sizes of the groups."""
        return sum(
            use.taps * _total(use.inputs, sizes) * _total(use.outputs, sizes)
            for use in self.uses.values()
        )

    @property
    def sizes(self) -> dict[Group, int]:
        """The sizes of all groups as they are."""
        return {group: group.size for group in self.groups}


def _total(groups: Iterable[Group], sizes: Mapping[Group, int]) -> int:
    return sum(sizes[group] for group in groups)


def channels(arch: Arch) -> Channels:
    """The groups of a model; raises `Unsupported` for a table that does not fit together."""
    arch.check()
    walk = _Walk(arch)
    maps: list[_Map] = []
    for row, layer in enumerate(arch.layers):
        sources = [walk.image if source == -1 else maps[source] for source in layer.sources]
        maps.append(walk.layer(f"model.{row}", layer, sources))
    return walk.found


@dataclass(frozen=True)
class _Map:
    """A feature map: its channel groups in order, and input pixels per cell and side."""

    groups: Groups
    stride: int


class _Walk:
    """Follows the table and notes what every convolution reads and makes."""

    def __init__(self, arch: Arch) -> None:
        self._arch = arch
        self.found = Channels()
        self.image = _Map((self._group("image", 3, fixed=True),), 1)

    def _group(self, name: str, size: int, *, fixed: bool = False) -> Group:
        group = Group(name, size, fixed)
        self.found.groups.append(group)
        return group

    def _use(self, name: str, kernel: int, source: _Map, outputs: Groups, stride: int) -> _Map:
        made = _Map(outputs, source.stride * stride)
        self.found.uses[name] = Use(source.groups, outputs, kernel**2, made.stride)
        return made

    def _conv(self, name: str, spec: ConvSpec, source: _Map, outputs: Groups | None = None) -> _Map:
        made = outputs or (self._group(name, spec.outputs),)
        return self._use(f"{name}.conv", spec.kernel, source, made, spec.stride)

    def layer(self, name: str, layer: Layer, sources: Sequence[_Map]) -> _Map:
        """Return what a row makes of the maps that it reads."""
        match layer:
            case ConvLayer():
                return self._conv(name, layer.conv, sources[0])
            case C2fLayer():
                return self._c2f(name, layer, sources[0])
            case SppfLayer():
                entry = self._conv(f"{name}.cv1", layer.entry, sources[0])
                pooled = _Map(entry.groups * (layer.pools + 1), entry.stride)
                return self._conv(f"{name}.cv2", layer.exit, pooled)
            case UpsampleLayer():
                return _Map(sources[0].groups, sources[0].stride // layer.scale)
            case ConcatLayer():
                return _Map(_joined(sources), sources[0].stride)
            case DetectLayer():
                return self._detect(name, layer, sources)
            case _:
                raise TypeError(f"unknown layer {layer!r}")

    def _c2f(self, name: str, layer: C2fLayer, source: _Map) -> _Map:
        halves = tuple(
            self._group(f"{name}.cv1.{half}", size) for half, size in enumerate(layer.split)
        )
        entry = self._conv(f"{name}.cv1", layer.entry, source, halves)
        parts = [_Map((half,), entry.stride) for half in halves]
        for number, block in enumerate(layer.blocks):
            parts.append(self._block(f"{name}.m.{number}", block, parts[-1]))
        return self._conv(f"{name}.cv2", layer.exit, _Map(_joined(parts), entry.stride))

    def _block(self, name: str, block: BlockSpec, source: _Map) -> _Map:
        first = self._conv(f"{name}.cv1", block.first, source)
        tied = (
            source.groups if block.shortcut else None
        )  # a sum needs the same channels on both sides
        return self._conv(f"{name}.cv2", block.second, first, tied)

    def _detect(self, name: str, layer: DetectLayer, sources: Sequence[_Map]) -> _Map:
        for branches, kind in ((layer.boxes, "cv2"), (layer.scores, "cv3")):
            for level, (branch, source) in enumerate(zip(branches, sources, strict=True)):
                self._branch(f"{name}.{kind}.{level}", branch, source)
        return sources[0]

    def _branch(self, name: str, branch: BranchSpec, source: _Map) -> None:
        first = self._conv(f"{name}.0", branch.first, source)
        second = self._conv(f"{name}.1", branch.second, first)
        outputs = (self._group(f"{name}.2", branch.outputs, fixed=True),)
        self._use(f"{name}.2", 1, second, outputs, 1)


def _joined(maps: Iterable[_Map]) -> Groups:
    return tuple(itertools.chain.from_iterable(one.groups for one in maps))
