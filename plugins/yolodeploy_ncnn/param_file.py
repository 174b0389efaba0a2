"""The `.param` file of ncnn: one line of text per layer.

Format (ncnn, docs/developer-guide/param-and-model-file-structure.md): a magic number, the
counts of layers and blobs, then per layer its type, name, counts and names of input and
output blobs, and `key=value` parameters. Values stay text here, so that unchanged ones are written
back byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from yolodeploy.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

PARAM_FILE = "model.ncnn.param"
MAGIC = "7767517"


@dataclass(frozen=True)
class Layer:
    """One line of the file. The keys of `params` are those of ncnn's operation table."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[int, str]

    def with_params(self, params: Mapping[int, str]) -> Layer:
        """Return the layer with parameters added or replaced."""
        return replace(self, params={**self.params, **params})

    def number(self, key: int, default: int | None = None) -> int:
        """Read an integer parameter; StepFailed if it is missing or not an integer."""
        text = self.params.get(key, default)
        try:
            return int(text)  # type: ignore[arg-type]  # None is refused below like any other text
        except (TypeError, ValueError):
            raise StepFailed(
                f"layer {self.name[:60]} ({self.type[:60]}): `{key}={str(text)[:60]}` must be an integer. "
                "Build it again."
            ) from None


@dataclass(frozen=True)
class Graph:
    """A network: layers in the order in which ncnn reads their weights."""

    layers: tuple[Layer, ...]

    def with_params(self, params: Mapping[int, str], names: Collection[str]) -> Graph:
        """Return the graph with parameters added to or replaced in the layers `names`."""
        changed = (la.with_params(params) if la.name in names else la for la in self.layers)
        return Graph(tuple(changed))

    def layer(self, name: str) -> Layer:
        """The layer of a name."""
        return next(layer for layer in self.layers if layer.name == name)

    @cached_property
    def producers(self) -> Mapping[str, Layer]:
        """The layer that writes each blob."""
        return {blob: layer for layer in self.layers for blob in layer.outputs}

    @cached_property
    def readers(self) -> Mapping[str, str]:
        """Name of the layer that reads each blob; ncnn copies a blob that several layers read."""
        return {blob: layer.name for layer in self.layers for blob in layer.inputs}

    @cached_property
    def input(self) -> str:
        """Name of the only input blob."""
        found = [layer.outputs[0] for layer in self.layers if layer.type == "Input"]
        _require_count("input", found, "one", len(found) == 1)
        return found[0]

    @property
    def output(self) -> str:
        """Name of the main output blob."""
        return self.outputs[0]

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the blobs that no layer reads, besides pieces that a slice leaves over: the main one first.

        Of a model for masks the other has the prototypes. pnnx numbers them in the order of the model's outputs.
        """
        read = {blob for layer in self.layers for blob in layer.inputs}
        left = {
            blob
            for layer in self.layers
            if layer.type == "Slice" and not read.isdisjoint(layer.outputs)
            for blob in layer.outputs
        }
        found = [blob for blob in self.producers if blob not in read | left]
        _require_count("output", found, "1 or 2", len(found) in (1, 2))
        return tuple(sorted(found))


def _require_count(what: str, names: list[str], allowed: str, right: bool) -> None:
    if not right:
        raise StepFailed(
            f"the network has {len(names)} {what} blobs {names[:5]}, where a YOLO model has {allowed}. Export the "
            "model again."
        )


def read(path: Path) -> Graph:
    """Read a file; StepFailed names the line that cannot be parsed."""
    try:
        return parse(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise StepFailed(f"{path}: {error}. The file is damaged; build it again.") from error


def parse(text: str) -> Graph:
    """Parse the text of a file; ValueError names the line and what is wrong with it."""
    lines = text.splitlines()
    if len(lines) < 2 or lines[0] != MAGIC:
        raise ValueError(f"line 1: expected {MAGIC}, found {_quoted(''.join(lines[:1]))}")
    layers: list[Layer] = []
    written: set[str] = set()
    for number, line in enumerate(lines[2:], start=3):
        layer = _parse_layer(number, line)
        for blob in layer.inputs:
            if blob not in written:
                found = f"{layer.name[:60]} reads {blob[:60]}, which no line above writes"
                raise ValueError(f"line {number}: {found}")
        written.update(layer.outputs)
        layers.append(layer)
    counts = f"{len(layers)} {len(written)}"
    if lines[1] != counts:
        raise ValueError(f"line 2: announces {_quoted(lines[1])} layers and blobs, found {counts}")
    return Graph(tuple(layers))


def _parse_layer(number: int, line: str) -> Layer:
    try:
        kind, name, inputs, outputs, *rest = line.split()
        first, last = int(inputs), int(inputs) + int(outputs)
        blobs, pairs = rest[:last], [pair.split("=", 1) for pair in rest[last:]]
        params = {int(key): value for key, value in pairs}
    except ValueError as error:
        raise ValueError(f"line {number}: {_quoted(line)}: {str(error)[:100]}") from error
    if len(blobs) != last:
        found = f"announces {_quoted(str(last))} blobs, names {len(blobs)}"
        raise ValueError(f"line {number}: {_quoted(line)}: {found}")
    return Layer(kind, name, tuple(blobs[:first]), tuple(blobs[first:]), params)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:120]}...")


def write(graph: Graph, path: Path) -> None:
    """Write a file."""
    path.write_bytes(to_text(graph).encode("ascii"))


def to_text(graph: Graph) -> str:
    """The text of the file, laid out as pnnx does."""
    lines = [MAGIC, f"{len(graph.layers)} {len(graph.producers)}"]
    lines += [_write_layer(layer) for layer in graph.layers]
    return "\n".join(lines) + "\n"


def _write_layer(layer: Layer) -> str:
    head = f"{layer.type:<24} {layer.name:<24} {len(layer.inputs)} {len(layer.outputs)}"
    pairs = [f"{key}={value}" for key, value in layer.params.items()]
    return " ".join([head, *layer.inputs, *layer.outputs, *pairs])
