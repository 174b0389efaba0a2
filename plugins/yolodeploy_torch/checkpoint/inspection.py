"""Say what a checkpoint is, from its pickle and the shapes of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from yolodeploy.backend import Inspected
from yolodeploy_torch.checkpoint.block import modules, table
from yolodeploy_torch.checkpoint.reading import Opened, open_model
from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.checkpoint.weights import Stored
from yolodeploy_torch.model import counted_size, part_counts, total_macs

_FORMS = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}


def inspect_checkpoint(path: Path) -> Inspected:
    """What the model in a .pt file is; raises ModelError if `load` would refuse the file.

    All weights are read once, to see that none is NaN, but not kept.
    """
    with open_model(path) as opened:
        for _ in opened.numbers():
            pass
        return _described(opened)


def _described(opened: Opened) -> Inspected:
    described, info = opened.description, opened.info
    imgsz, held = counted_size(info), dict(_tensors(opened.checkpoint.model))
    forms: Mapping[str, str] = {
        name: _FORMS.get(each.kind, each.kind) for name, each in held.items()
    }
    stored = Counter[str]()
    for name, each in held.items():
        if each.floating:
            stored[forms[name]] += each.nbytes
    features = (f"It has {' and '.join(described.features)}.",) if described.features else ()
    unknown = "It does not say at which size it was trained." if info.imgsz is None else ""
    return Inspected(
        "Ultralytics checkpoint",
        ".pt",
        info,
        described.family,
        described.scale,
        info.parameters,
        total_macs(opened.graph, imgsz),
        imgsz,
        part_counts(
            opened.graph, imgsz, {name: forms.get(name, "fp32") for name in opened.weights}
        ),
        stored,
        opened.checkpoint.data,
        weights_checked=True,
        notes=(*features, *filter(None, [unknown])),
    )


def _tensors(root: Node) -> Iterator[tuple[str, Stored]]:
    """Every tensor of the model, by name."""
    for prefix, node in modules(root):
        for name, value in {**table(node, "_parameters"), **table(node, "_buffers")}.items():
            if isinstance(value, Stored):
                yield f"{prefix}{name}", value
