"""Every backend recovers the layers of its graph: the names and parts of the checkpoint's own table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch_support import context, load

import yolodeploy_coreml
import yolodeploy_ncnn
import yolodeploy_onnxruntime
import yolodeploy_openvino
from yolodeploy.backend import Artifact, Target
from yolodeploy.compress import Part, read_layers
from yolodeploy_torch.model import layer_parts

Named = Iterable[tuple[str, Part]]


def _coreml(folder: Path) -> Named:
    from yolodeploy_coreml.mlpackage.layers import block_of, layers
    from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package

    found = layers(block_of(read_package(folder / PACKAGE).spec), read_layers(folder))
    return ((layer.name, layer.part) for layer in found)


def _ncnn(folder: Path) -> Named:
    from yolodeploy_ncnn import model

    found = model.read(Artifact("ncnn", folder, ""))
    return ((name, found.parts[name]) for name in found.kernels)


def _onnxruntime(folder: Path) -> Named:
    from yolodeploy_onnxruntime.model_file import read_model
    from yolodeploy_onnxruntime.structure import find_structure

    found = find_structure(read_model(folder), folder)
    return ((name, found.parts[name]) for name in found.layers)


def _openvino(folder: Path) -> Named:
    from yolodeploy_openvino.graph import find_structure
    from yolodeploy_openvino.toolchain import read_model

    found = find_structure(read_model(folder), folder)
    return ((name, found.parts[name]) for name in found.names)


def check(weights: Path, work: Path, plugin: ModuleType, recover: Callable[[Path], Named]) -> None:
    if reason := plugin.problem():
        pytest.skip(reason)
    source = load(weights, work / "load")
    step = plugin.STEPS[0]
    target = Target(plugin.DEVICES[0], "17" if plugin is yolodeploy_coreml else None)
    exported = step.run(source, step.params(), replace(context(work / "export"), target=target))
    table = layer_parts(source.path)
    # OpenVINO orders operations that do not depend on each other in its own way.
    assert sorted(recover(exported)) == sorted(table.items())
    assert set(table.values()) == {"backbone", "neck", "head", "head.last", "dfl"}


EACH = pytest.mark.parametrize(
    ("plugin", "recover"),
    [
        pytest.param(yolodeploy_coreml, _coreml, id="coreml"),
        pytest.param(yolodeploy_ncnn, _ncnn, id="ncnn"),
        pytest.param(yolodeploy_onnxruntime, _onnxruntime, id="onnxruntime"),
        pytest.param(yolodeploy_openvino, _openvino, id="openvino"),
    ],
)


@EACH
def test_layers_of_the_demo_model(demo: Any, plugin: Any, recover: Any, tmp_path: Path) -> None:
    check(demo.weights, tmp_path, plugin, recover)


@pytest.mark.coco
@EACH
def test_layers_of_a_coco_model(coco: Any, plugin: Any, recover: Any, tmp_path: Path) -> None:
    check(coco.weights, tmp_path, plugin, recover)
