"""What the convolutions of a model read and make, read off the table of layers.

Pruning, quantization and the count of operations need the same facts: which channels must be pruned
together, which maps must share an 8-bit scale, what a convolution costs, and to which part of the
model it belongs. `structure` finds them all in one pass over the table, from the image to the head.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from yolodeploy.compress import Part
from yolodeploy_torch.model.arch import (
    MAX_COUNT,
    AnyLayer,
    Arch,
    BranchSpec,
    C2fLayer,
    ConcatLayer,
    ConvLayer,
    ConvSpec,
    DetectLayer,
    SppfLayer,
    Unsupported,
    UpsampleLayer,
)


@dataclass(eq=False)
class Group:
    """A run of channels that are pruned together; those of the image and of the outputs are `fixed`.

    The convolutions on both sides of a shortcut's sum make one group (the dependency graph of DepGraph,
    Fang et al., https://arxiv.org/abs/2301.12900).
    """

    name: str
    size: int
    fixed: bool = False


Groups = tuple[Group, ...]
Sizes = Mapping[Group, int]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What a layer hands on, under the name of the convolution unit that made it.

    `content` are the channels in order: groups, or the maps that are joined in this one. `stride` is the
    number of input pixels per cell and side; `upsampled` maps depend on one that was.
    """

    name: str
    content: tuple[Group | FeatureMap, ...]
    channels: int
    stride: int
    upsampled: bool = False

    def groups(self) -> Groups:
        """The groups of its channels in order."""
        found: list[Group] = []
        pending: list[Group | FeatureMap] = [self]
        while pending:
            item = pending.pop()
            if isinstance(item, Group):
                found.append(item)
            else:
                pending.extend(reversed(item.content))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution: the map that it reads, the groups of its output channels, and what it costs.

    `taps` are the weights per pair of an input and an output channel, `stride` the input pixels per cell
    and side of the output.
    """

    source: FeatureMap
    outputs: Groups
    taps: int
    stride: int
    part: Part

    @functools.cached_property
    def inputs(self) -> Groups:
        """The groups of its input channels in order."""
        return self.source.groups()

    @property
    def fixed(self) -> bool:
        """Whether its output channels are those of the model, which stay."""
        return any(group.fixed for group in self.outputs)

    def weights(self, sizes: Sizes) -> int:
        """The number of its weights, with these sizes of the groups."""
        inputs, outputs = (
            sum(sizes[group] for group in groups) for groups in (self.inputs, self.outputs)
        )
        return self.taps * inputs * outputs


@dataclass
class Structure:
    """The groups of channels, the convolutions by the name of their module, and the joins of maps by name.

    Everything is in order of execution. The head's fixed convolution ("dfl") is not among them.
    """

    groups: list[Group] = field(default_factory=list)
    convolutions: dict[str, Convolution] = field(default_factory=dict)
    joins: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def sizes(self) -> dict[Group, int]:
        """The sizes of the groups as they are."""
        return {group: group.size for group in self.groups}

    def macs(self, sizes: Sizes, pixels: int) -> float:
        """Multiply-accumulates for an image of so many pixels, with these sizes of the groups."""
        return pixels * sum(
            conv.weights(sizes) / conv.stride**2 for conv in self.convolutions.values()
        )

    def weights(self, sizes: Sizes) -> int:
        """Weights of all convolutions, with these sizes of the groups."""
        return sum(conv.weights(sizes) for conv in self.convolutions.values())


def structure(arch: Arch) -> Structure:
    """Read the structure off a table; raises `Unsupported` if its numbers do not fit together."""
    head, walk = arch.head, _Walk(arch.channels)
    maps: list[FeatureMap] = []
    for row, layer in enumerate(arch.layers):
        what = f"layer {row} ({layer.kind})"
        try:
            sources = walk.sources(layer, maps)
            if row == len(arch.layers) - 1:
                walk.detect(f"model.{row}", head, sources)
                _check_head(arch, sources)
                break
            maps.append(walk.layer(f"model.{row}", layer, sources))
        except Unsupported as error:
            raise Unsupported(f"{what} does not fit: {error}") from error
        if max(maps[-1].channels, maps[-1].stride) > MAX_COUNT:
            raise Unsupported(f"{what} makes more channels or a larger stride than {MAX_COUNT:,}")
    return walk.found


def convolutions(arch: Arch) -> dict[str, Part]:
    """The part of every convolution, by the name of its module, in order of execution.

    Recipes select layers by these parts, because the names in a graph change with every release of the
    tools. `backbone` ends where the first map is upsampled, `neck` is what depends on an upsampled map,
    `head` are the branches of the detection head, `head.last` the last convolution of each, and `dfl`
    the fixed one that turns the distribution of a box side into its mean.
    """
    parts = {name: conv.part for name, conv in structure(arch).convolutions.items()}
    return {**parts, f"model.{len(arch.layers) - 1}.dfl.conv": "dfl"}


def unified_scales(arch: Arch) -> dict[str, str]:
    """The 8-bit scale of what every convolution reads, by the name of the convolution.

    A scale bears the name of one of the maps that share it. Maps that are joined, added or read by
    several convolutions do: some runtimes round in front of a join and others behind it, and with one
    scale both are the same.
    """
    found, parents = structure(arch), dict[str, str]()

    def root(name: str) -> str:
        while name in parents:
            name = parents[name]
        return name

    for first, *others in found.joins:
        for other in others:
            if root(other) != root(first):
                parents[root(other)] = root(first)
    return {name: root(conv.source.name) for name, conv in found.convolutions.items()}


class _Walk:
    """Follows the table and notes the convolutions that it meets."""

    def __init__(self, channels: int) -> None:
        self.found = Structure()
        image = self._group("image", channels, fixed=True)
        self._image = FeatureMap("image", (image,), channels, 1)

    def sources(self, layer: AnyLayer, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        """The maps that a row reads."""
        if not layer.sources or not all(-1 <= row < len(maps) for row in layer.sources):
            raise Unsupported(f"it reads the layers {layer.sources}, which do not come before it")
        if len(layer.sources) > 1 and not isinstance(layer, ConcatLayer | DetectLayer):
            raise Unsupported(f"it reads the layers {layer.sources}, and one is allowed")
        return [self._image if row == -1 else maps[row] for row in layer.sources]

    def layer(self, name: str, layer: AnyLayer, sources: Sequence[FeatureMap]) -> FeatureMap:
        """Return the map that a row makes of those that it reads."""
        source = sources[0]
        match layer:
            case ConvLayer():
                return self._unit(name, layer.conv, source)
            case C2fLayer():
                return self._c2f(name, layer, source)
            case SppfLayer():
                entry = self._unit(f"{name}.cv1", layer.entry, source)
                count = layer.pools + 1
                pooled = (entry.channels * count, entry.stride, entry.upsampled)
                joined = FeatureMap(entry.name, (entry,) * count, *pooled)
                return self._unit(f"{name}.cv2", layer.exit, joined)
            case UpsampleLayer():
                if source.stride % layer.scale:
                    raise Unsupported(f"stride {source.stride} is upsampled by {layer.scale}")
                stride = source.stride // layer.scale
                channels = source.channels
                return FeatureMap(source.name, source.content, channels, stride, upsampled=True)
            case ConcatLayer():
                return self._join(sources)
            case DetectLayer():
                raise Unsupported("a detection head has to come last")

    def _c2f(self, name: str, layer: C2fLayer, source: FeatureMap) -> FeatureMap:
        if layer.entry.outputs != sum(layer.split):
            raise Unsupported(f"{layer.entry.outputs} channels are split into {layer.split}")
        first = f"{name}.cv1"
        halves = tuple(self._group(f"{first}.{n}", size) for n, size in enumerate(layer.split))
        entry = self._unit(first, layer.entry, source, halves)
        joined = [
            FeatureMap(first, (half,), half.size, entry.stride, entry.upsampled) for half in halves
        ]
        for number, block in enumerate(layer.blocks):
            made = self._unit(f"{name}.m.{number}.cv1", block.first, joined[-1])
            before = joined[-1] if block.shortcut else None
            if before and block.second.outputs != before.channels:
                raise Unsupported(
                    f"a shortcut adds {before.channels} channels to {block.second.outputs}"
                )
            # a sum needs the same channels on both sides
            outputs = before.groups() if before else None
            joined.append(self._unit(f"{name}.m.{number}.cv2", block.second, made, outputs))
        return self._unit(f"{name}.cv2", layer.exit, self._join(joined))

    def detect(self, name: str, layer: DetectLayer, sources: Sequence[FeatureMap]) -> None:
        """Note the convolutions of the head."""
        if not len(layer.boxes) == len(layer.scores) == len(sources):
            raise Unsupported("it needs one branch for boxes and one for scores per level")
        for kind, branches in (("cv2", layer.boxes), ("cv3", layer.scores)):
            for level, (branch, source) in enumerate(zip(branches, sources, strict=True)):
                self._branch(f"{name}.{kind}.{level}", branch, source)

    def _branch(self, name: str, branch: BranchSpec, source: FeatureMap) -> None:
        first = self._unit(f"{name}.0", branch.first, source, part="head")
        second = self._unit(f"{name}.1", branch.second, first, part="head")
        outputs = (self._group(f"{name}.2", branch.outputs, fixed=True),)
        last = Convolution(second, outputs, 1, second.stride, "head.last")
        self.found.convolutions[f"{name}.2"] = last

    def _unit(
        self,
        name: str,
        spec: ConvSpec,
        source: FeatureMap,
        outputs: Groups | None = None,
        part: Part | None = None,
    ) -> FeatureMap:
        """Note a convolution unit and return the map that it makes."""
        if spec.inputs != source.channels:
            raise Unsupported(
                f"a convolution takes {spec.inputs} channels, but {source.channels} arrive"
            )
        made = outputs or (self._group(name, spec.outputs),)
        stride = source.stride * spec.stride
        body: Part = "neck" if source.upsampled else "backbone"
        conv = Convolution(source, made, spec.kernel**2, stride, part or body)
        self.found.convolutions[f"{name}.conv"] = conv
        return FeatureMap(name, made, spec.outputs, stride, source.upsampled)

    def _join(self, maps: Sequence[FeatureMap]) -> FeatureMap:
        """Join maps along the channels."""
        first = maps[0]
        if len(maps) == 1:
            return first
        if len({one.stride for one in maps}) > 1:
            raise Unsupported(f"maps of strides {[one.stride for one in maps]} are joined")
        self.found.joins.append(tuple(one.name for one in maps))
        channels, upsampled = sum(one.channels for one in maps), any(one.upsampled for one in maps)
        return FeatureMap(first.name, tuple(maps), channels, first.stride, upsampled)

    def _group(self, name: str, size: int, *, fixed: bool = False) -> Group:
        group = Group(name, size, fixed)
        self.found.groups.append(group)
        return group


def _check_head(arch: Arch, sources: Iterable[FeatureMap]) -> None:
    for box, score in zip(arch.head.boxes, arch.head.scores, strict=True):
        given = box.outputs + score.outputs - 4 * arch.reg_max
        if given != len(arch.names):
            raise Unsupported(
                f"it gives {given} class scores, but it names {len(arch.names)} classes"
            )
    strides = tuple(source.stride for source in sources)
    if strides != arch.strides:
        raise Unsupported(f"it states the strides {arch.strides}, but its layers make {strides}")
