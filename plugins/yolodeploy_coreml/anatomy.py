"""A package taken apart: operations, metadata and interface of its model, and weights by operation.

The messages are `Model` (`description.metadata.userDefined`) and `MILSpec.Program` (functions, blocks,
operations); `values.py` says how weights lie in their file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yolodeploy.parts import content
from yolodeploy_coreml.package import PACKAGE, inner, read_package, stages
from yolodeploy_coreml.values import Reader

_DATA = f"{PACKAGE}/Data/com.apple.CoreML"


def parts(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Parts of the model's specification and of its weight file."""
    package = read_package(folder / PACKAGE)
    reader, graph, weights = Reader(package.weights), {}, {}
    for operation, block in _operations(inner(package.spec).mlProgram):
        name = f"{operation.type} {operation.outputs[0].name if operation.outputs else block}"
        for key, value in sorted(operation.attributes.items()):
            if value.WhichOneof("value") == "blobFileValue":
                blob = value.blobFileValue
                kind, bits, data = reader.record(blob.fileName, blob.offset)
                weights[f"{name} {key}"] = f"type {kind} bits {bits} {content(data)}"
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


def _operations(program: Any) -> Iterator[tuple[Any, str]]:
    for function in program.functions.values():
        for name, block in function.block_specializations.items():
            for operation in block.operations:
                yield operation, name
