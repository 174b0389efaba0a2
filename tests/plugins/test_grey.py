"""Models of grey images, from Ultralytics' file to the bundle: the same pixels, the same output on every backend."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from real_model import RealModel
from torch_support import load

import yolodeploy_torch
from yolodeploy.backend import NO_MODEL, Artifact, Context, ModelInfo, Target
from yolodeploy.backend.registry import load_registry
from yolodeploy.cli import main as cli
from yolodeploy.data.dataset import load_view
from yolodeploy.data.images import letterboxed_file, to_tensor
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape

SHAPE = ImageShape(96, 160, channels=1)
NAMES = ("circle", "triangle", "square", "pentagon", "star")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow YOLOv8 for one channel, as Ultralytics saves it; random weights that give lively outputs."""
    tasks = pytest.importorskip("ultralytics.nn.tasks", reason="pip install 'yolodeploy[train]'")
    table = tasks.yaml_model_load("yolov8n.yaml")
    table["scales"] = {"n": [0.33, 0.06, 64]}
    torch.manual_seed(0)
    model = tasks.DetectionModel(table, ch=1, nc=len(NAMES), verbose=False)
    for _ in range(40):  # the normalisations learn what they see
        model.train()(torch.rand(4, 1, 96, 160))
    for branch in model.model[-1].cv3:
        branch[-1].weight.data.mul_(30)
        branch[-1].bias.data.fill_(-1)
    model.names = dict(enumerate(NAMES))
    path: Path = tmp_path_factory.mktemp("grey") / "grey.pt"
    content = {"model": model.half(), "ema": None, "epoch": -1, "train_args": {"imgsz": 160}}
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Artifact:
    return load(checkpoint, checkpoint.parent / "load")


@pytest.fixture(scope="module")
def photo(checkpoint: Path) -> Path:
    """A coloured JPEG, whose grey depends on who decodes it."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
    path = checkpoint.parent / "photo.jpg"
    cv2.imwrite(str(path), cv2.resize(pixels, (171, 121), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture(scope="module")
def tensor(photo: Path) -> NDArray[np.float32]:
    return to_tensor(letterboxed_file(photo, SHAPE).pixels)


def _run(source: Artifact, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return yolodeploy_torch.open(source, Target(load_registry().devices()["n100"]), 1)(image)


def test_pixels_and_output_are_those_of_ultralytics(
    checkpoint: Path, source: Artifact, photo: Path, tensor: NDArray[np.float32]
) -> None:
    from ultralytics import YOLO

    theirs = YOLO(checkpoint)
    seen: list[torch.Tensor] = []
    said: list[torch.Tensor] = []
    size = [SHAPE.height, SHAPE.width]
    theirs.predict(photo, imgsz=size, rect=False, verbose=False)
    network = theirs.predictor.model.model
    network.model[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    network.register_forward_hook(lambda *given: said.append(given[2][0].clone()))
    theirs.predict(photo, imgsz=size, rect=False, verbose=False)
    assert tensor.shape == (1, 1, 96, 160)
    assert np.array_equal(seen[-1].numpy(), tensor)
    difference = np.abs(_run(source, tensor) - said[-1].numpy())
    assert difference[:, :4].max() < 0.001  # px
    assert said[-1][:, 4:].std() > 0.01
    assert difference[:, 4:].max() < 1e-6
    assert ModelInfo.read(source.path).channels == 1


@pytest.mark.parametrize("name", [n for n, b in load_registry().backends.items() if b.DEVICES])
def test_every_backend_gives_what_the_source_gives(
    name: str, source: Artifact, tensor: NDArray[np.float32], demo: RealModel, tmp_path: Path
) -> None:
    """Exported in fp32; what a compressing step makes of that is close."""
    backend = load_registry().backends[name]
    if reason := backend.problem():
        pytest.skip(reason)
    device = backend.DEVICES[0]
    target, step = Target(device, device.os_default), backend.STEPS[0]
    params = step.params.model_validate({"precision": "fp32"})
    view = load_view(demo.data, View(split="train", images=2), 0)
    data = {"calibration": view}
    context = Context(
        tmp_path, 0, SHAPE, 1, target, replace(NO_MODEL, names=NAMES), data, lambda *_: None
    )
    made = Artifact(step.produces, step.run(source, params, context), "")
    difference = np.abs(backend.open(made, target, 1)(tensor) - _run(source, tensor))
    assert difference[:, :4].max() < 0.01  # px
    assert difference[:, 4:].max() < 1e-4
    image = backend.describe(made).inputs[0]
    assert image.shape[-3:] == (1, 96, 160)
    assert "rey" in image.meaning
    for later in backend.STEPS[1:]:
        work = tmp_path / later.name
        work.mkdir()
        quick = {"spare_dominant": False} if "spare_dominant" in later.params.model_fields else {}
        params = later.params.model_validate(quick)  # without a run of every layer alone
        folder = later.run(made, params, replace(context, work=work))
        small = backend.open(Artifact(later.produces, folder, ""), target, 1)(tensor)
        assert 0 < np.abs(small - _run(source, tensor))[:, 4:].max() < 0.1, later.name


def test_training_steps_take_grey_images(
    source: Artifact, tensor: NDArray[np.float32], demo: RealModel, tmp_path: Path
) -> None:
    view = load_view(demo.data, View(split="train", images=8), 0)
    target, data = (
        Target(load_registry().devices()["n100"]),
        {"calibration": view, "training": view},
    )
    context = Context(
        tmp_path,
        0,
        SHAPE,
        1,
        target,
        replace(NO_MODEL, names=NAMES),
        data,
        lambda *_: None,
        source=source,
    )
    fit = {"epochs": 1, "batch": 4, "threads": 1, "holdout": 0}
    for step in ({"prune": {"keep": 0.9, "importance": "taylor", "finetune": fit}}, {"qat": fit}):
        ((name, values),) = step.items()
        found = next(step for step in yolodeploy_torch.STEPS if step.name == name)
        work = tmp_path / name
        work.mkdir()
        params = found.params.model_validate(values)
        folder = found.run(source, params, replace(context, work=work))
        assert ModelInfo.read(folder).channels == 1
        output = _run(Artifact("yolo", folder, ""), tensor)
        assert output.shape == (1, 9, 315)
        assert not np.array_equal(output, _run(source, tensor))


RECIPE = """\
name: grey
model: {{weights: {weights}, imgsz: [96, 160]}}
data: {{path: {data}, evaluation: {{split: val, images: 4}}}}
target: n100
steps: [export]
"""


def test_a_grey_model_is_shipped(
    checkpoint: Path, demo: RealModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    text = RECIPE.format(weights=checkpoint, data=demo.data)
    Path("grey.yaml").write_text(text, encoding="utf-8")
    assert cli.main(["deploy", "grey.yaml", "-q", "--allow", "/"]) == 0
    bundle = tmp_path / "dist" / "grey"
    contract: dict[str, Any] = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    assert contract["inputs"][0]["shape"] == [1, 1, 96, 160]
    assert contract["colour_order"] == "GREY"
    assert contract["letterbox"]["fill"] == [114]
    golden = bundle / "golden"
    (image,) = golden.glob("image.*")
    pixels = letterboxed_file(image, SHAPE).pixels
    assert np.array_equal(np.load(golden / "input.npy"), to_tensor(pixels))
