"""NCNN on a GPU: what the file for one says, that boxes are right on a Vulkan device, and a whole recipe on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_support import ROOT, context, load

import yolodeploy_ncnn as plugin
from yolodeploy.backend import Artifact, ModelInfo, Target
from yolodeploy.data.dataset import load_view
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.recipe import View
from yolodeploy_ncnn.decode import FEATURE_MASK, NO_FP16, ON_CPU
from yolodeploy_ncnn.gpu import device as devices
from yolodeploy_ncnn.model import read

os.environ.setdefault("LP_NUM_THREADS", "1")  # lavapipe's, read when it starts

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "ncnn is installed"
)
DEVICES = {device.name: device for device in plugin.DEVICES}
CPU, GPU = Target(DEVICES["pixel-8"]), Target(DEVICES["pixel-8"], gpu="vulkan")
EXPORT, W8, QUANTIZE = plugin.STEPS
MODEL = (
    ROOT / "models" / "shapes-yolo11.pt"
)  # its attention has products that ncnn computes on the CPU alone


@dataclass(frozen=True)
class Made:
    """The model, exported for the CPU and for the GPU, and two of its images."""

    cpu: Artifact
    gpu: Artifact
    images: np.ndarray


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.set_num_threads(1)
    work = tmp_path_factory.mktemp("vulkan")
    source = load(MODEL, work / "load")
    found = []
    for target in (CPU, GPU):
        prepared = context(work / str(target.gpu))
        prepared = replace(prepared, target=target, model=ModelInfo.read(source.path))
        folder = EXPORT.run(source, EXPORT.params(precision="fp16"), prepared)
        found.append(Artifact("ncnn", folder, ""))
    view = load_view(ROOT / "examples" / "shapes" / "data" / "data.yaml", View(images=2), 0)
    images = np.concatenate(list(view.letterboxed(prepared.imgsz)))
    return Made(*found, images)


@pytest.fixture
def device() -> None:
    if problem := plugin.gpu_here(GPU).problem:
        pytest.skip(problem)


def test_the_file_for_a_gpu_differs_in_the_masks_of_decoding_alone(made: Made) -> None:
    for file in ("model.ncnn.bin", "layers.json"):
        assert (made.cpu.path / file).read_bytes() == (made.gpu.path / file).read_bytes()
    cpu, gpu = (
        {layer.name: layer.params.get(FEATURE_MASK) for layer in read(each).graph.layers}
        for each in (made.cpu, made.gpu)
    )
    assert set(cpu.values()) == {None, NO_FP16}
    assert gpu == {name: ON_CPU if mask == NO_FP16 else None for name, mask in cpu.items()}


def test_an_app_is_told_which_options_to_set_and_may_still_use_the_cpu(made: Made) -> None:
    note = plugin.describe(made.gpu).note
    assert "opt.use_vulkan_compute = true before load_param" in note
    assert "opt.use_fp16_arithmetic at true" in note
    assert "vulkan" not in plugin.describe(made.cpu).note
    outputs = [plugin.open(each, CPU, 1)(made.images) for each in (made.cpu, made.gpu)]
    assert np.array_equal(*outputs)


def test_int8_is_refused_on_a_gpu_and_devices_without_a_usable_one_say_why() -> None:
    assert "Use `w8`" in str(plugin.refuse(QUANTIZE, QUANTIZE.params(), GPU))
    assert plugin.refuse(QUANTIZE, QUANTIZE.params(), CPU) is None
    assert plugin.refuse(W8, W8.params(), GPU) is None
    for device in plugin.DEVICES:
        assert bool(device.gpus) != bool(device.no_gpu), device.name


@pytest.mark.usefixtures("device")
def test_boxes_on_a_vulkan_device(made: Made) -> None:
    """In fp16; a file for the CPU would give boxes that are nowhere near, or no numbers."""
    wanted = plugin.open(made.cpu, CPU, 1)(made.images)
    predict = plugin.open(made.gpu, GPU, 1)
    found = predict(made.images)
    sure = wanted[:, 4:].max(1) > 0.25
    assert sure.sum() > 20
    off = np.abs(found - wanted).transpose(0, 2, 1)[sure]
    assert (off[:, :4].max() <= 0.3, off[:, 4:].max() <= 0.03) == (True, True)
    wrong = plugin.open(made.cpu, GPU, 1)(made.images[:1])
    near = np.abs(wrong - wanted[:1])[:, :4].transpose(0, 2, 1)[sure[:1]].max() < 5
    assert not np.isfinite(wrong).all() or not near


@pytest.mark.usefixtures("device")
def test_layers_that_fall_back_are_named_and_copies_counted(made: Made) -> None:
    """Attention multiplies twice: each product takes two tensors back, and the second gives one to the GPU."""
    runtime = plugin.open(made.gpu, GPU, 1).runtime
    gpu = devices.require_gpu()
    assert gpu.name in runtime.device
    assert runtime.timing == ("Mali-G715" in gpu.name)
    kept = sum(la.params.get(FEATURE_MASK) == ON_CPU for la in read(made.gpu).graph.layers)
    assert f"{kept} layers of the decoding stay on the CPU in fp32, and 2 that" in runtime.note
    products = [la.name for la in read(made.gpu).graph.layers if la.type == "MatMul"]
    assert f"fall back to it: MatMul {products[0]}, MatMul {products[1]};" in runtime.note
    assert "copies of tensors: 3 to the GPU, 6 back" in runtime.note


@pytest.mark.usefixtures("device")
def test_a_host_runs_on_its_gpu_and_not_on_one_of_software(made: Made) -> None:
    from yolodeploy_ncnn.runtime import worker  # imports ncnn

    remote = plugin.remote(made.gpu, GPU)
    assert plugin.remote(made.cpu, CPU).options == {**remote.options, "vulkan": False}
    if not devices.require_gpu().software:
        assert "Vulkan" in worker.open(made.gpu.path, remote.options, 1).runtime["name"]
        return
    with pytest.raises(RuntimeError, match=r"no GPU but llvmpipe .* measure without --on"):
        worker.open(made.gpu.path, remote.options, 1)


def test_a_machine_without_a_device_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import yolodeploy_ncnn as p\nprint(p.gpu_here(p).problem)"
    nothing = {"VK_DRIVER_FILES": "/nonexistent", "VK_ICD_FILENAMES": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **nothing}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("ncnn finds no Vulkan device (")
    assert "apt-get install mesa-vulkan-drivers" in done.stdout
    assert done.stderr == ""
    monkeypatch.setattr(devices, "_found", lambda: devices._Found(None, ["no driver"]))
    with pytest.raises(EnvironmentProblem, match=r"no Vulkan device \(no driver\)"):
        devices.require_gpu()


RECIPE = f"""\
name: shapes-vulkan
model: {{weights: {ROOT}/models/shapes-yolo11-cls.pt}}
data: {{path: {ROOT}/examples/shapes/data-classify, evaluation: {{images: 4}}}}
target: {{device: pixel-8, gpu: vulkan}}
steps:
  - export: {{precision: fp16}}
  - w8
checks: {{fidelity: 1.0}}
"""


@pytest.mark.usefixtures("device")
def test_a_recipe_from_weights_to_bundle(tmp_path: Path, cache: Path) -> None:
    recipe = tmp_path / "shapes-vulkan.yaml"
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "yolodeploy", "deploy", recipe, "--allow", ROOT, "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "queueC" not in done.stderr  # ncnn's list of the device's features
    report = json.loads(done.stdout)
    assert report["target"]["gpu"] == "vulkan"
    runtime = report["evidence"]["runtime"]
    assert runtime["name"].startswith("ncnn with Vulkan")
    assert report["evidence"]["fidelity"]["value"] == 1.0
    assert report["evidence"]["output_diff"]["max"] < 0.01
    if "software" in runtime["name"]:
        said = report["evidence"]["latency_ratio_reason"]
        assert said == "the speed of ncnn with Vulkan in software says nothing about the device"
    lock = json.loads(recipe.with_suffix(".lock").read_text())
    assert lock["target"] == {"device": "pixel-8", "os": None, "gpu": "vulkan"}
