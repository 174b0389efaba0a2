"""Say what a package is, from its specification and the records of its weight file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolodeploy.backend import Inspected, LayerBytes
from yolodeploy.compress import KERNELS_ONLY, count_parts, read_layers, weigh
from yolodeploy.system import ImageShape
from yolodeploy_coreml.mlpackage.interface import read_interface
from yolodeploy_coreml.mlpackage.layers import TRANSPOSED, block_of, layers, stored_layers
from yolodeploy_coreml.mlpackage.package import PACKAGE, data_types, read_package, report_damage
from yolodeploy_coreml.mlpackage.values import shape_of
from yolodeploy_coreml.mlpackage.weight_file import WeightFiles, record_size


@report_damage("the saved program")
def inspect(path: Path) -> Inspected | None:
    """What the package in a folder is; None if there is none."""
    folder = path.parent if path.name == PACKAGE else path
    if not (folder / PACKAGE).is_dir():
        return None
    interface, package = read_interface(folder), read_package(folder / PACKAGE)
    block, parts = block_of(package.spec), read_layers(folder)
    shapes = {
        out.name: shape_of(out.type.tensorType) for op in block.operations for out in op.outputs
    }
    made = {op.outputs[0].name: op for op in block.operations}
    held, macs = Counter[str](), Counter[str]()
    for layer in layers(block, parts):
        weight = shapes[layer.weight]
        held[layer.name] += math.prod(weight)
        if layer.kind == TRANSPOSED:  # every pixel that it reads meets every weight
            read = made[layer.output].inputs["x"].arguments[0].name
            macs[layer.name] += math.prod(shapes[read][2:]) * math.prod(weight)
        else:
            macs[layer.name] += math.prod(shapes[layer.output]) * math.prod(weight[1:])
    task = package.spec.description.metadata.userDefined["task"]
    told = () if task in ("", "detect") else (f"Its task is `{task}`.",)
    forms = interface.layers
    _, channels, height, width = interface.inputs[0].shape
    return Inspected(
        "Core ML package",
        "mlpackage",
        imgsz=ImageShape(height, width, channels),
        parameters=held.total(),
        macs=macs.total(),
        parts=count_parts({**dict.fromkeys(forms, "dfl"), **parts}, forms, held, macs),
        stored=_stored(block, WeightFiles(package.weights)),
        notes=(*told, interface.note.partition(". ")[0] + ".", KERNELS_ONLY),
    )


_COMPRESSED = {"constexpr_lut": "palette", "constexpr_sparse": "sparse"}


def _stored(block: Any, files: WeightFiles) -> Counter[str]:
    """Bytes of the records in the weight file, by form."""
    found = Counter[str]()
    for op in block.operations:
        form = next((it for kind, it in _COMPRESSED.items() if op.type.startswith(kind)), None)
        for value in _in_file(op):
            blob = value.blobFileValue
            kind = data_types()[value.type.tensorType.dataType].lower().replace("float", "fp")
            _, _, data = files.record(blob.fileName, blob.offset)
            found[form or kind] += data.size
    return found


def _in_file(op: Any) -> Iterator[Any]:
    """The values of an operation that lie in a weight file."""
    bound = [argument.value for each in op.inputs.values() for argument in each.arguments]
    for value in (*op.attributes.values(), *bound):
        if value.WhichOneof("value") == "blobFileValue":
            yield value


@report_damage("the saved program")
def layer_bytes(folder: Path) -> tuple[LayerBytes, ...]:
    """What every layer takes in the weight file: the records of its weights and bias, padding included.

    Values of a few bytes are in the program and do not count; records that several share count with the first.
    """
    package, parts = read_package(folder / PACKAGE), read_layers(folder)
    block, files = block_of(package.spec), WeightFiles(package.weights)
    made = {out.name: op for op in block.operations for out in op.outputs}
    seen, sizes = set[tuple[str, int]](), Counter[str]()
    for layer in layers(block, parts):
        queue = [layer.weight, layer.bias or ""]
        while queue:
            op = made.get(queue.pop())
            if op is not None and op.type.startswith("const"):
                sizes[layer.name] += _record_bytes(op, files, seen)
                queue += [arg.name for each in op.inputs.values() for arg in each.arguments]
    return weigh(parts, stored_layers(block, parts), sizes)


def _record_bytes(op: Any, files: WeightFiles, seen: set[tuple[str, int]]) -> int:
    """Bytes of the records that an operation holds, but those in `seen`, to which these are added."""
    total = 0
    for value in _in_file(op):
        blob = value.blobFileValue
        if (blob.fileName, blob.offset) not in seen:
            seen.add((blob.fileName, blob.offset))
            total += record_size(files.record(blob.fileName, blob.offset)[2].size)
    return total
