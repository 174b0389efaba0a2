"""Every task on every backend: what an exported model returns, and what it says of that."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import suite
from numpy.typing import NDArray

from yolodeploy.backend import Artifact, Context, ModelInfo, Outputs, layout_of, named_outputs
from yolodeploy.data.images import letterbox, to_tensor
from yolodeploy.system import ImageShape
from yolodeploy.tasks import task_of

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"segment": "seg", "pose": "pose", "obb": "obb", "classify": "cls"}
PICTURE = ROOT / "examples/shapes/data/images/val/00000.jpg"
LARGEST = {"px": 0.02, "rad": 1e-3}  # differences of fp32; of all other numbers:
OTHERS = 1e-4
SHIPPING = [name for name, plugin in suite.plugins().items() if plugin.DEVICES]


@pytest.fixture(scope="module", params=list(MODELS))
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Artifact, ModelInfo, NDArray[np.float32]]:
    """A demo model as loaded, and a picture as it takes it."""
    weights = ROOT / "models" / f"shapes-yolo11-{MODELS[request.param]}.pt"
    loaded = suite.load(weights, tmp_path_factory.mktemp(request.param) / "work")
    info = ModelInfo.read(loaded.path)
    image = cv2.imread(str(PICTURE))[..., ::-1]
    size = info.images(ImageShape.square(64 if info.task == "classify" else 160))
    return loaded, info, to_tensor(letterbox(np.ascontiguousarray(image), size).pixels)


@pytest.mark.parametrize("name", SHIPPING)
def test_an_export_returns_what_the_source_returns(
    name: str, source: tuple[Artifact, ModelInfo, NDArray[np.float32]], tmp_path: Path
) -> None:
    plugin = suite.plugins()[name]
    if reason := plugin.problem():
        pytest.skip(reason)
    loaded, info, image = source
    step, task = suite.first_step(plugin), task_of(info)
    params = next(p for p in suite.variants(step) if getattr(p, "precision", "fp32") == "fp32")
    size, work = ImageShape(*image.shape[2:]), tmp_path / "work"
    work.mkdir()
    target = suite.target(plugin)
    context = Context(work, 0, size, suite.THREADS, target, info, {}, lambda *_: None)
    artifact = Artifact(step.produces, step.run(loaded, params, context), "")
    predict = plugin.open(artifact, target, suite.THREADS)
    found = _first(named_outputs(predict(image), task.outputs))
    reader = suite.plugins()[suite.loader()[0]]
    exact = reader.open(loaded, suite.target(reader), suite.THREADS)(image)
    expected = _first(named_outputs(exact, task.outputs))
    layout = layout_of(predict)
    assert task.fault(found, layout) is None
    for kind, difference in task.differences(expected, found, layout).items():
        assert difference.max() <= LARGEST.get(kind.rpartition("_")[2], OTHERS), kind
    described = plugin.describe(artifact).outputs
    assert len(described) >= len(task.outputs)
    assert all(tensor.meaning for tensor in described)


def _first(outputs: Outputs) -> Outputs:
    return {name: output[0] for name, output in outputs.items()}
