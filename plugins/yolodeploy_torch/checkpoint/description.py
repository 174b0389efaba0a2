"""Say what the model in a checkpoint is: family, task, and what sets it apart from the usual one.

The family is told by the blocks that only it has. Where two share their blocks, the name of the YAML
file decides that Ultralytics built the model from and keeps in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from yolodeploy.system import quotable
from yolodeploy_torch.checkpoint.block import modules
from yolodeploy_torch.checkpoint.names import KNOWN, MODELS
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.checkpoint.weights import Stored

# By class of the whole model.
_FAMILIES_OF_ROOTS = {
    "RTDETRDetectionModel": "RT-DETR",
    "WorldModel": "YOLO-World",
    "YOLOEModel": "YOLOE",
    "YOLOESegModel": "YOLOE",
}
_TASKS = {
    "ClassificationModel": "classification",
    "DepthModel": "depth",
    "OBBModel": "oriented-box",
    "PoseModel": "pose",
    "SegmentationModel": "segmentation",
    "SemanticSegmentationModel": "semantic segmentation",
    "YOLOESegModel": "segmentation",
}
# By block, the most telling first.
_FAMILIES_OF_BLOCKS = {
    "A2C2f": ("YOLO12",),
    "v10Detect": ("YOLOv10",),
    "C2fCIB": ("YOLOv10",),
    "SCDown": ("YOLOv10",),
    "RepNCSPELAN4": ("YOLOv9",),
    "C3k2": ("YOLO11", "YOLO26"),
    "C3Ghost": ("YOLOv8",),
    "C2f": ("YOLOv8",),
    "C3": ("YOLOv5",),
}
_FILE = re.compile(r"yolo(v?)(\d{1,2})(?!\d)([a-z]?)")
_SCALE = re.compile(r"[a-z]")
_OTHER = "Ultralytics"  # of no family that is known here
_USUAL_LEVELS = (3, 4, 5)
_MOST_LEVELS = 16


@dataclass(frozen=True)
class Description:
    """What a model is: `family` ("YOLO12"), `task` ("detection"), `features` beyond the usual.

    `scale` is the letter of its size ("n"), as the file has it; empty if it has none. `supported` says whether every layer is of a class that can be read.
    """

    family: str
    task: str
    features: tuple[str, ...]
    supported: bool
    scale: str = ""

    @property
    def altered(self) -> bool:
        """Whether it is a detection model of a usual kind, with layers that this kind does not have."""
        usual = self.family not in _FAMILIES_OF_ROOTS.values()
        return usual and self.task == "detection" and not self.supported

    def __str__(self) -> str:
        article = "an" if self.family in ("RT-DETR", _OTHER) else "a"
        features = f" with {' and '.join(self.features)}" if self.features else ""
        return f"{article} {self.family} {self.task} model{features}"


def describe(root: Node) -> Description:
    """Say what a model is; raises `Unsupported` if its tree of modules is damaged."""
    named = list(modules(root))
    kinds = {_short(node) for _, node in named[1:]}
    family = _family(root, kinds)
    features = [*_head(root, named), *_activations(family, named)]
    if family == "YOLOv8" and "C3Ghost" in kinds:
        features.append("ghost convolutions")
    if _short(root) in MODELS and family != "RT-DETR":
        features += _own_layers(kinds, named)
    task = _TASKS.get(_short(root), "detection")
    supported = root.kind in MODELS and all(node.kind in KNOWN for _, node in named)
    return Description(family, task, tuple(features), supported, _scale(root))


def _short(node: Node) -> str:
    return node.kind.rpartition(".")[2]


def _family(root: Node, kinds: set[str]) -> str:
    if family := _FAMILIES_OF_ROOTS.get(_short(root)):
        return family
    if "RTDETRDecoder" in kinds:
        return "RT-DETR"
    table, found = _yaml(root)
    named = f"YOLO{found[1]}{int(found[2])}" if found else _OTHER
    for block, families in _FAMILIES_OF_BLOCKS.items():
        if block in kinds:
            return (
                named if named in families else families["end2end" in table and len(families) > 1]
            )
    return named


def _yaml(root: Node) -> tuple[dict[Any, Any], re.Match[str] | None]:
    """What the model was built from, and the match of its file's name."""
    yaml = root.state.get("yaml")
    table = yaml if isinstance(yaml, dict) else {}
    file = table.get("yaml_file")
    return table, _FILE.match(file) if isinstance(file, str) else None


def _scale(root: Node) -> str:
    table, found = _yaml(root)
    said = table.get("scale")
    if isinstance(said, str) and _SCALE.fullmatch(said):
        return said
    return found[3] if found else ""


def _head(root: Node, named: Sequence[tuple[str, Node]]) -> Iterator[str]:
    """What is said of the levels that the head reads, if they are not those of strides 8, 16 and 32."""
    strides = [node.state.get("stride") for _, node in named[1:] if "strides" in node.state]
    for stride in [*strides, root.state.get("stride")]:
        if not isinstance(stride, Stored) or not 2 <= stride.size <= _MOST_LEVELS:
            continue
        values = [float(value) for value in stride.numbers().ravel().tolist()]
        levels = [math.log2(value) if value > 0 else math.nan for value in values]
        odd = [f"P{level:.0f}" for level in levels if level not in _USUAL_LEVELS]
        if odd:
            yield f"the {' and '.join(odd)} head"
        elif len(levels) != len(_USUAL_LEVELS):
            yield f"a head of {len(levels)} levels"
        return


def _activations(family: str, named: Sequence[tuple[str, Node]]) -> Iterator[str]:
    acts = {_short(node) for prefix, node in named if f".{prefix}".endswith(".act.")}
    odd = sorted(acts - KNOWN)
    if odd and family != "RT-DETR":
        yield f"{' and '.join(map(quotable, odd[:3]))} activations"


def _own_layers(kinds: set[str], named: Sequence[tuple[str, Node]]) -> Iterator[str]:
    acts = {_short(node) for prefix, node in named if f".{prefix}".endswith(".act.")}
    odd = sorted(map(quotable, kinds - KNOWN - acts))
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        yield f"the layers {', '.join(odd[:5])}{more}" if len(odd) > 1 else f"the layer {odd[0]}"
