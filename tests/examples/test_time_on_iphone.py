"""The program that times a package on an iPhone, against a coremltools that behaves as its API reference says.

It shows what is asked of coremltools, in the documented form. That coremltools' app runs it on a phone, nobody has seen.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from real_model import ROOT

import yolodeploy_coreml

pytestmark = pytest.mark.skipif(
    yolodeploy_coreml.problem() is not None,
    reason=yolodeploy_coreml.problem() or "coremltools is installed",
)


@pytest.fixture(scope="module")
def program() -> ModuleType:
    file = ROOT / "examples" / "apps" / "coreml" / "time_on_iphone.py"
    spec = importlib.util.spec_from_file_location("time_on_iphone", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A pipeline: a program that takes an image of 8 x 4 pixels, and a suppression."""
    from yolodeploy_coreml.mlpackage import messages

    spec = messages().Model()
    stage = spec.pipeline.models.add()
    stage.mlProgram.version = 1
    given = stage.description.input.add(name="image")
    given.type.imageType.width, given.type.imageType.height = 8, 4
    given.type.imageType.colorSpace = given.type.imageType.RGB
    spec.pipeline.models.add().nonMaximumSuppression.iouThreshold = 0.5
    data = tmp_path / "model.mlpackage" / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    contract = {"entry": "model.mlpackage", "inputs": [{"name": "image"}]}
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    (tmp_path / "golden").mkdir()
    np.save(tmp_path / "golden" / "input.npy", np.full((1, 3, 4, 8), 0.2, np.float32))
    return tmp_path


class Tools:
    """coremltools, and what it was asked for."""

    def __init__(self, phones: list[Any]) -> None:
        from yolodeploy_coreml.mlpackage import messages

        self.asked: list[tuple[Any, ...]] = []
        self.phones = phones
        units = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
        self.ComputeUnit = {name: name for name in units}
        self.proto = SimpleNamespace(Model_pb2=messages())
        self.models = SimpleNamespace(MLModel=self._model)
        self.remote_device = SimpleNamespace(
            Device=SimpleNamespace(get_connected_devices=lambda _kind: phones),
            DeviceType=SimpleNamespace(IPHONE="iPhone"),
            AppSigningCredentials=lambda development_team: development_team,
        )
        self.perf_utils = SimpleNamespace(MLModelBenchmarker=self._benchmarker)

    def _model(self, spec: Any, **options: Any) -> Any:
        assert options.pop("skip_model_load")
        assert Path(options.pop("weights_dir")).name == "weights"
        return spec, options["compute_units"]

    def _benchmarker(self, model: Any, device: Any) -> Any:
        async def predict(inputs: Any, iterations: int, *, warmup: bool) -> Any:
            self.asked.append((*model, device, inputs, iterations, warmup))
            return SimpleNamespace(statistics=SimpleNamespace(median=3.25, minimum=3.0))

        return SimpleNamespace(benchmark_predict=predict)


def _installed(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = "coremltools.models.ml_program.experimental"
    monkeypatch.setitem(sys.modules, "coremltools", tools)
    for name in ("remote_device", "perf_utils"):
        monkeypatch.setitem(sys.modules, f"{inside}.{name}", getattr(tools, name))


class Phone:
    async def prepare_for_model_debugging(self, credentials: str) -> str:
        return f"phone of {credentials}"


def test_a_twin_with_a_tensor_is_timed_on_every_choice_of_units(
    program: ModuleType, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tools := Tools([Phone()]), monkeypatch)
    lines = asyncio.run(program.measure(bundle, "TEAM"))
    assert lines[1] == "CPU_AND_NE   median 3.25 ms, least 3.00 ms"
    assert [asked[1] for asked in tools.asked] == list(program.UNITS)
    spec, _, phone, inputs, runs, warm = tools.asked[0]
    assert (phone, runs, warm) == ("phone of TEAM", program.RUNS, True)
    assert spec.WhichOneof("Type") == "mlProgram"
    array = spec.description.input[0].type.multiArrayType
    assert (list(array.shape), array.dataType) == ([1, 3, 4, 8], array.FLOAT32)
    assert inputs["image"].shape == (1, 3, 4, 8)
    assert np.allclose(inputs["image"], 51)


def test_without_a_phone_it_says_what_to_do(
    program: ModuleType, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(Tools([]), monkeypatch)
    with pytest.raises(SystemExit, match=r"no iPhone is connected\. Unlock it"):
        asyncio.run(program.measure(bundle, "TEAM"))
