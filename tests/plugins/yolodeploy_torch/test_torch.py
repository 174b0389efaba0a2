"""The torch plugin: parity with Ultralytics, bytes, and what it imports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_support import COCO_IMAGES, COCO_MODEL, DEMO, ROOT, TARGET, load

import yolodeploy_torch
from yolodeploy.backend import Artifact, ModelInfo
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_torch.model.artifact import read
from yolodeploy_torch.model.exportable import exportable, traced

needs_coco = pytest.mark.skipif(
    not COCO_MODEL.is_file(), reason=f"{COCO_MODEL} is missing; set YOLODEPLOY_SHARED"
)


def ultralytics_checkpoint(name: str, path: Path) -> Path:
    """Save an untrained model whose batch normalisations are not the identity."""
    ultralytics = pytest.importorskip("ultralytics")
    torch.manual_seed(0)
    model = ultralytics.YOLO(f"{name}.yaml", verbose=False)
    for module in model.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_(0, 0.3)
    model.save(path)
    return path


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ultralytics_checkpoint("yolov8n", tmp_path_factory.mktemp("n") / "yolov8n.pt")


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(checkpoint, tmp_path_factory.mktemp("load") / "work")


def noise(batch: int, side: int) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def differences(one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    """Return the largest difference of a box coordinate in px, and of a score."""
    assert one.shape == other.shape
    delta = (one - other).abs()
    return delta[:, :4].max().item(), delta[:, 4:].max().item()


def assert_like_ultralytics(checkpoint: Path, artifact: Artifact, images: torch.Tensor) -> None:
    from ultralytics import YOLO

    original = YOLO(checkpoint).model.float().eval()
    with torch.no_grad():
        expected = original(images)[0]
        rebuilt = read(artifact.path)(images)
        box, score = differences(rebuilt, expected)
        assert (box <= 1e-4, score <= 1e-6) == (True, True), (box, score)
        # Fusing rounds differently; the same difference lies between Ultralytics' own two.
        output = yolodeploy_torch.open(artifact, TARGET, 1)(images.numpy())
        box, score = differences(torch.from_numpy(output), expected)
        assert (box <= 5e-3, score <= 5e-5) == (True, True), (box, score)


@pytest.mark.parametrize("name", ["yolov8n", "yolov8s", "yolov8n-p2"])
def test_output_is_that_of_ultralytics(name: str, tmp_path: Path) -> None:
    path = ultralytics_checkpoint(name, tmp_path / "model.pt")
    assert_like_ultralytics(path, load(path, tmp_path / "work"), noise(2, 192))


@pytest.mark.skipif(not DEMO.is_file(), reason=f"{DEMO} is missing")
def test_demo_output_is_that_of_ultralytics(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    assert_like_ultralytics(DEMO, load(DEMO, tmp_path / "work"), noise(2, 160))


@pytest.mark.coco
@needs_coco
def test_coco_output_is_that_of_ultralytics(tmp_path: Path) -> None:
    import cv2

    pytest.importorskip("ultralytics")
    pictures = [
        cv2.resize(cv2.imread(str(path)), (640, 640))[..., ::-1]
        for path in sorted(COCO_IMAGES.glob("*.jpg"))[:2]
    ]
    images = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2) / np.float32(255))
    assert_like_ultralytics(COCO_MODEL, load(COCO_MODEL, tmp_path / "work"), images)


def test_info(artifact: Artifact) -> None:
    info = ModelInfo.read(artifact.path)
    assert (info.task, info.names[0], len(info.names)) == ("detect", "0", 80)
    assert (info.strides, info.parameters) == ((8, 16, 32), 3_157_200)
    assert {path.name for path in artifact.path.iterdir()} == {
        "info.json",
        "graph.json",
        "model.safetensors",
    }


def test_a_damaged_graph_is_named(artifact: Artifact, tmp_path: Path) -> None:
    for file in artifact.path.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    table = json.loads((tmp_path / "graph.json").read_text())
    node = next(row for row in table["nodes"] if row["name"] == "model.2.m.0.cv2.conv")
    node["channels"][0] = 12
    (tmp_path / "graph.json").write_text(json.dumps(table))
    with pytest.raises(
        StepFailed, match=r"model\.2\.m\.0\.cv2\.conv \(conv\) .*takes 12 .* 16 arrive"
    ):
        read(tmp_path)
    node["channels"][0], node["extra"] = 16, 1
    (tmp_path / "graph.json").write_text(json.dumps(table))
    with pytest.raises(StepFailed, match=r"is damaged: .*extra"):
        read(tmp_path)


def test_exported_forms_agree(artifact: Artifact, recwarn: pytest.WarningsRecorder) -> None:
    images = noise(1, 160)
    with torch.no_grad():
        expected = read(artifact.path)(images)
        for module in (
            exportable(artifact.path, ImageShape.square(160)),
            traced(artifact.path, ImageShape.square(160)),
        ):
            output = module(images)
            assert output.shape == (1, 84, 525)
            box, score = differences(output, expected)
            assert (box <= 5e-3, score <= 5e-5) == (True, True), (box, score)
            assert not any(parameter.requires_grad for parameter in module.parameters())
    assert [str(warning.message) for warning in recwarn] == []


def test_image_size_must_fit_the_strides(artifact: Artifact) -> None:
    with pytest.raises(PlanRefused, match=r"imgsz: 100 is not a multiple of 32.* use 96 or 128\."):
        exportable(artifact.path, ImageShape.square(100))


def test_predictor_keeps_the_threads_of_others(artifact: Artifact) -> None:
    before = torch.get_num_threads()
    predictor = yolodeploy_torch.open(artifact, TARGET, before + 1)
    one = predictor(noise(3, 64).numpy())
    assert one.shape == (3, 84, 84)
    assert one.dtype == np.float32
    assert (predictor.runtime.name, predictor.runtime.threads) == ("PyTorch", before + 1)
    assert torch.get_num_threads() == before


SCRIPT = """
import hashlib, json, os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from torch_support import load
from yolodeploy.system import ImageShape
from yolodeploy_torch.model import exportable, traced
os.umask(int(sys.argv[3], 8))
artifact = load(Path(sys.argv[1]), Path(sys.argv[2]))
weights = b"".join(
    value.numpy().tobytes() for _, value in sorted(exportable(artifact.path, ImageShape.square(160)).state_dict().items())
)
graph = str(traced(artifact.path, ImageShape.square(160)).inlined_graph)
graph = "".join(line.split(" # ")[0] for line in graph.splitlines(keepends=True))
digests = {{
    path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in artifact.path.iterdir()
}}
digests["fused"] = hashlib.sha256(weights).hexdigest()
digests["graph"] = hashlib.sha256(graph.encode()).hexdigest()
loaded = [name for name in ("ultralytics", "torchvision", "sympy", "torch._dynamo") if name in sys.modules]
print(json.dumps([digests, loaded]))
"""


def in_a_process(checkpoint: Path, work: Path, seed: str, umask: str, zone: str) -> list[object]:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "TZ": zone,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint), str(work), umask],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_same_bytes_in_every_process_and_no_ultralytics(checkpoint: Path, tmp_path: Path) -> None:
    first, imported = in_a_process(checkpoint, tmp_path / "a" / "work", "1", "022", "UTC")
    second, _ = in_a_process(checkpoint, tmp_path / "b", "2", "077", "Asia/Tokyo")
    assert first == second
    assert set(first) == {"info.json", "graph.json", "model.safetensors", "fused", "graph"}
    assert imported == []


def test_importing_the_plugin_imports_no_toolchain() -> None:
    code = "import sys, yolodeploy_torch; print({'torch', 'numpy'} & set(sys.modules))"
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    environment = {**os.environ, "PYTHONPATH": path}
    out = subprocess.check_output([sys.executable, "-c", code], env=environment)
    assert out.decode() == "set()\n"
