"""How an app feeds an artifact and reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Tensor:
    """One input or output of a shipped artifact, as an app sees it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class LayerBytes:
    """The bytes that a layer takes in an artifact's files: its kernel, bias, and whatever expands them.

    `part` is the part of the model that it belongs to, `form` how its kernel is stored, as `Interface.layers` has it.
    """

    layer: str
    part: str
    form: str
    bytes: int


@dataclass(frozen=True)
class Interface:
    """How an app feeds an artifact and reads it; becomes part of `contract.json`.

    The app multiplies pixels of 0..255 by `scale` before it passes them on (1.0 where the artifact scales
    them itself). `confidence` and `iou` are the thresholds of the artifact's own non-maximum suppression,
    None if the app has to suppress. `layers` maps each convolution to the form in which it is stored or
    computed ("fp16", "int8", "4-bit palette").
    """

    entry: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    scale: float
    note: str = ""
    confidence: float | None = None
    iou: float | None = None
    layers: Mapping[str, str] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """How many images the artifact takes at once: the first of four sizes; 1 where that is free."""
        shape = self.inputs[0].shape
        return (
            max(shape[0], 1) if len(shape) == len(("batch", "channels", "height", "width")) else 1
        )
