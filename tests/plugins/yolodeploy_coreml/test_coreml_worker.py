"""What travels to a Mac, against a coremltools that behaves as its API reference says.

The stand-in runs programs in the project's executor. So this shows that the right things are asked for, in the documented
form, and that what comes back becomes what a predictor returns. It cannot show what Core ML computes, how fast, or where,
nor that a Mac behaves as documented: nobody who wrote this had one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch_support import ROOT, context, load

import yolodeploy_coreml as plugin
from yolodeploy.backend import Artifact, ModelInfo, Target, load_registry
from yolodeploy.errors import HostProblem
from yolodeploy.hosts import ProcessTransport, WorkerHost
from yolodeploy_coreml import mlpackage

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)
TARGET = Target(next(each for each in plugin.DEVICES if each.name == "iphone-15-pro"), "17")
MODELS = {
    "suppressed": ("shapes-yolov8n", {"nms": True}),
    "rows": ("shapes-yolo26", {}),
    "classes": ("shapes-yolo11-cls", {}),
    "masks": ("shapes-yolo11-seg", {}),
}
PLACED = {"conv": "MLNeuralEngineComputeDevice", "softmax": "MLCPUComputeDevice"}


class ComputeUnit(Enum):
    ALL, CPU_AND_GPU, CPU_ONLY, CPU_AND_NE = range(1, 5)


class MLModel:
    """`MLModel(spec, weights_dir=, compute_units=)`: takes PIL images, gives arrays by name, of classifiers mappings."""

    opened: ClassVar[list[MLModel]] = []

    def __init__(self, model: Any, *, weights_dir: str, compute_units: ComputeUnit) -> None:
        from yolodeploy_coreml.runtime import Program

        self.units, self._labels = compute_units, mlpackage.labels_of(model)
        reads = mlpackage.results_of(mlpackage.block_of(model)) if self._labels else ()
        self._program = Program(mlpackage.Package(model, Path(weights_dir)), reads)
        self.opened.append(self)

    def predict(self, data: dict[str, Any]) -> dict[str, Any]:
        (image,) = data.values()
        assert (list(data), image.mode) == (["image"], "RGB")
        pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None]
        found = {name: value.numpy() for name, value in self._program(pixels).items()}
        if not self._labels:
            return found
        (shares,) = found.values()
        by_name = {label: float(each) for label, each in zip(self._labels, shares[0], strict=True)}
        return {"classLabel_probs": by_name, "classLabel": max(by_name, key=lambda it: by_name[it])}

    def get_compiled_model_path(self) -> str:
        return "compiled.mlmodelc"


class MLComputePlan:
    """Three convolutions for the Neural Engine, a softmax in a nested block for the CPU, and a constant."""

    def __init__(self) -> None:
        inner = SimpleNamespace(operations=[_operation("softmax")])
        block = SimpleNamespace(operations=[_operation("const"), *[_operation("conv", inner)] * 1])
        block.operations += [_operation("conv")] * 2
        functions = {"main": SimpleNamespace(block=block)}
        self.model_structure = SimpleNamespace(program=SimpleNamespace(functions=functions))

    @classmethod
    def load_from_path(cls, path: str, compute_units: ComputeUnit) -> MLComputePlan:
        assert (path, compute_units) == ("compiled.mlmodelc", MLModel.opened[-1].units)
        return cls()

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        if operation.operator_name == "const":
            return None
        device = type(PLACED[operation.operator_name], (), {})()
        return SimpleNamespace(preferred_compute_device=device, supported_compute_devices=[device])

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        return SimpleNamespace(weight=0.3 if operation.operator_name == "conv" else 0.1)


def _operation(name: str, *blocks: Any) -> Any:
    return SimpleNamespace(operator_name=name, blocks=list(blocks))


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The worker's module on something that looks like a Mac."""
    from yolodeploy_coreml.runtime import worker

    tools = ModuleType("coremltools")
    tools.__version__ = "9.0"  # type: ignore[attr-defined]
    proto = SimpleNamespace(Model_pb2=mlpackage.messages())
    members = {
        "ComputeUnit": ComputeUnit,
        "proto": proto,
        "models": SimpleNamespace(MLModel=MLModel),
    }
    plans = ModuleType("coremltools.models.compute_plan")
    plans.MLComputePlan = MLComputePlan  # type: ignore[attr-defined]
    vars(tools).update(members)
    monkeypatch.setitem(sys.modules, "coremltools", tools)
    monkeypatch.setitem(sys.modules, "coremltools.models.compute_plan", plans)
    mac = SimpleNamespace(mac_ver=lambda: ("26.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(worker, "platform", mac)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the predictor here: several add in another order
    yield worker
    torch.set_num_threads(threads)
    MLModel.opened.clear()


@dataclass(frozen=True)
class Made:
    artifact: Artifact
    images: np.ndarray


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Made:
    name, params = MODELS[request.param]
    work = tmp_path_factory.mktemp(request.param)
    source = load(ROOT / "models" / f"{name}.pt", work / "load")
    given = replace(context(work / "export", 64), target=TARGET, model=ModelInfo.read(source.path))
    export = plugin.STEPS[0]
    folder = export.run(source, export.params(precision="fp32", **params), given)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
    return Made(Artifact("mlpackage", folder, ""), pixels / np.float32(255))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize("made", MODELS, indirect=True)
def test_what_a_mac_returns_becomes_what_a_predictor_returns(made: Made, mac: Any) -> None:
    before = _files(made.artifact.path)
    remote = plugin.remote(made.artifact, TARGET)
    opened = mac.open(made.artifact.path, remote.options, 1)
    found = opened(made.images)
    assert list(found) == list(remote.outputs)
    assert remote.shapes is not None
    shapes = [(2, *shape) for shape in remote.shapes() or ()]
    assert [each.shape for each in found.values()] == shapes
    here = plugin.open(made.artifact, TARGET, 1)
    wanted, finished = here(made.images), remote.finish(found)
    if isinstance(wanted, np.ndarray):
        wanted, finished = {"output": wanted}, {"output": finished}
    assert finished.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(finished[name], array, rtol=0, atol=1e-6)
    assert remote.layout == getattr(here, "layout", "anchors")
    assert _files(made.artifact.path) == before


@pytest.mark.parametrize("made", ["classes"], indirect=True)
def test_units_placement_and_that_nobody_tried_it_are_said(made: Made, mac: Any) -> None:
    options = plugin.remote(made.artifact, TARGET).options
    runtime = mac.open(made.artifact.path, {**options, "host": {"units": "CPU_AND_NE"}}, 1).runtime
    assert MLModel.opened[-1].units == ComputeUnit.CPU_AND_NE
    assert runtime["device"].endswith(", compute units CPU_AND_NE")
    assert runtime["version"] == "macOS 26.1, coremltools 9.0"
    assert runtime["note"] == (
        "this code has not been run on a Mac by those who wrote it; of 4 operations Core ML plans the Neural Engine 3 "
        "(90% of the cost), the CPU 1 (10% of the cost)"
    )
    with pytest.raises(RuntimeError, match="no compute units FAST: ALL, CPU_AND_NE"):
        mac.open(made.artifact.path, {**options, "host": {"units": "FAST"}}, 1)


@pytest.mark.parametrize("made", ["classes"], indirect=True)
def test_a_host_that_is_no_mac_and_options_that_are_none_are_refused(
    made: Made, tmp_path: Path
) -> None:
    transport = ProcessTransport("desk", [sys.executable], str(tmp_path / "there"))
    backend = load_registry().backends["coreml"]
    for options, said in (
        (
            {"units": "ALL"},
            "its runtime exists for macOS only, and this is Linux. Name another host",
        ),
        ({"unit": "ALL"}, r"has the option `unit`, and .* takes `units`. Remove it"),
    ):
        host = WorkerHost(transport, options=options)
        with pytest.raises(HostProblem, match=said):
            host.open(backend, made.artifact, TARGET, 1)
        host.close()
