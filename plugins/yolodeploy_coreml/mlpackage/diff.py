"""A package taken apart: operations, metadata and interface of its model, and weights by operation.

The messages are `Model` (`description.metadata.userDefined`) and `MILSpec.Program` (functions, blocks,
operations); `weight_file.py` says how weights are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yolodeploy.backend import content
from yolodeploy_coreml.mlpackage.package import PACKAGE, inner, read_package, stages
from yolodeploy_coreml.mlpackage.weight_file import WeightFiles

_DATA = f"{PACKAGE}/Data/com.apple.CoreML"


def parts(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Parts of the model's specification and of its weight file."""
    package = read_package(folder / PACKAGE)
    files, graph, weights = WeightFiles(package.weights), {}, {}
    operations = [
        (op, name)
        for function in inner(package.spec).mlProgram.functions.values()
        for name, block in function.block_specializations.items()
        for op in block.operations
    ]
    for operation, block_name in operations:
        name = f"{operation.type} {operation.outputs[0].name if operation.outputs else block_name}"
        for key, value in sorted(operation.attributes.items()):
            if value.WhichOneof("value") == "blobFileValue":
                blob = value.blobFileValue
                kind, bits, data = files.record(blob.fileName, blob.offset)
                weights[f"{name} {key}"] = f"type {kind} bits {bits} {content(data.tobytes())}"
                blob.offset = 0  # where a weight lies says nothing about the operation
        graph[name] = content(operation.SerializeToString(deterministic=True))
    for number, model in enumerate((package.spec, *stages(package.spec))):
        where = f"model {number}"
        for key, text in model.description.metadata.userDefined.items():
            graph[f"{where} metadata {key}"] = text
        graph[f"{where} description"] = content(
            model.description.SerializeToString(deterministic=True)
        )
        graph[f"{where} version"] = str(model.specificationVersion)
    return {f"{_DATA}/model.mlmodel": graph, f"{_DATA}/weights/weight.bin": weights}
