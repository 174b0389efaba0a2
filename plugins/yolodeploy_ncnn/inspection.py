"""Say what an artifact is, from its two files; ncnn itself is not needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from yolodeploy.backend import Artifact, Inspected, LayerBytes
from yolodeploy.compress import count_parts, weigh
from yolodeploy.system import ImageShape
from yolodeploy_ncnn import model
from yolodeploy_ncnn.bin_file import TAG_BYTES
from yolodeploy_ncnn.interface import task_in
from yolodeploy_ncnn.param_file import PARAM_FILE

_FORMAT = "ncnn"


def inspect(path: Path) -> Inspected | None:
    """What the network in a folder is, or the one that a file belongs to; None if there is none."""
    folder = path if path.is_dir() else path.parent
    if not (folder / PARAM_FILE).is_file() or path.suffix not in ("", ".param", ".bin"):
        return None
    read = model.read(Artifact(_FORMAT, folder, ""))
    stored, held = Counter[str](), Counter[str]()
    for block in read.blocks:
        stored[model.FORMS[block.tag]] += block.stop - block.start
        if block.tagged or block.layer.name in read.kernels:
            held[block.layer.name] += block.count
    forms = read.forms()
    pixels = read.graph.producers[read.graph.input]
    channels, height, width = (pixels.number(key, 0) for key in (2, 1, 0))
    task = task_in(read.graph, read.parts)
    told = () if task == "detect" else (f"Its task is `{task}`.",)
    return Inspected(
        "NCNN network",
        _FORMAT,
        imgsz=ImageShape(height, width, channels),
        parameters=sum(held.values()),
        parts=count_parts(read.parts, forms, held),
        stored=stored,
        notes=(
            *told,
            "A network of ncnn does not say the sizes of its maps, so FLOPs are not counted.",
        ),
    )


def layer_bytes(artifact: Artifact) -> tuple[LayerBytes, ...]:
    """What every layer takes in the `.bin` file: kernel and its tag, bias and scales."""
    read, sizes = model.read(artifact), Counter[str]()
    for block in read.blocks:
        sizes[block.layer.name] += block.stop - block.start + TAG_BYTES * block.tagged
    return weigh(read.parts, read.forms(), sizes)
