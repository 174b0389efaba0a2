"""Takes an artifact apart, into operators, tensors and the rest of the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yolodeploy.backend import content
from yolodeploy_onnxruntime.model_file import MODEL_FILE, identity, read_model


def parts(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """The parts of `model.onnx`."""
    model = read_model(folder)
    found = {
        f"{node.op_type} {identity(node)}": content(node.SerializeToString(deterministic=True))
        for node in model.graph.node
    }
    for each in model.graph.initializer:
        found[f"tensor {each.name}"] = content(each.SerializeToString(deterministic=True))
    found["order"] = content("\n".join(identity(node) for node in model.graph.node).encode())
    del model.graph.node[:], model.graph.initializer[:]
    found["head of the file"] = content(model.SerializeToString(deterministic=True))
    return {MODEL_FILE: found}
