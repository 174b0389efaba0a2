"""A model that Ultralytics trained with `single_cls=True`: read, planned and scored as Ultralytics' `val` does."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from real_model import DEMO, ROOT

import yolodeploy_torch
from yolodeploy.cli.main import main
from yolodeploy.planning import plan_recipe
from yolodeploy.tasks import primary_score
from yolodeploy.tasks.detection import Detect
from yolodeploy_torch import model
from yolodeploy_torch.checkpoint import read_checkpoint_model

ultralytics = pytest.importorskip(
    "ultralytics", reason="the reference comes from it. Run: pip install 'yolodeploy[train]'"
)

SIZE = 128
RECIPE = (
    "model: {weights: one.pt}\ndata: {path: data.yaml}\ntarget: xeon-icelake\nsteps: [export]\n"
)


@dataclass(frozen=True)
class Trained:
    """A folder with the recipe, and what Ultralytics' own `val` says of the model."""

    folder: Path
    names: dict[int, str]
    boxes: int
    classes: set[float]
    map50_95: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("single")
    shapes = ROOT / "examples" / "shapes" / "data"
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
            for file in sorted((shapes / kind / split).iterdir())[:32]:
                shutil.copy(file, folder / kind / split / file.name)
    names = "names: [circle, triangle, square, pentagon, star]\n"
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\n{names}")
    torch.set_num_threads(1)
    quiet = {"data": data, "device": "cpu", "workers": 0, "plots": False, "verbose": False}
    ultralytics.YOLO(DEMO).train(
        **quiet, epochs=1, imgsz=SIZE - 5, batch=8, single_cls=True, amp=False, val=False, optimizer="SGD",
        lr0=0.01, warmup_epochs=0, mosaic=0.0, project=folder / "runs", name="one",
    )  # fmt: skip
    shutil.copy(folder / "runs" / "one" / "weights" / "last.pt", folder / "one.pt")
    (folder / "one.yaml").write_text(RECIPE)
    return _reference(folder, quiet)


def _reference(folder: Path, quiet: dict[str, Any]) -> Trained:
    seen: dict[str, Any] = {}

    def remember(validator: Any) -> None:
        labels = [row["cls"].flatten().tolist() for row in validator.dataloader.dataset.labels]
        seen.update(boxes=sum(map(len, labels)), classes={c for row in labels for c in row})

    reference = ultralytics.YOLO(folder / "one.pt")
    reference.add_callback("on_val_end", remember)
    result = reference.val(**quiet, rect=False, batch=1, project=folder / "runs", name="val")
    return Trained(folder, result.names, **seen, map50_95=float(result.box.map))


def test_the_plan_reads_what_val_reads(trained: Trained, tmp_path: Path) -> None:
    plan = plan_recipe(trained.folder / "one.yaml", tmp_path / "store")
    view = plan.views["evaluation"]
    boxes = [box for image in view.images for box in view.boxes(image)]
    assert plan.imgsz.plain == SIZE  # asked for 123, which the trainer rounds up
    assert dict(enumerate(view.names)) == trained.names == {0: "item"}
    assert len(boxes) == trained.boxes > 60
    assert {float(box.cls) for box in boxes} == trained.classes == {0.0}
    assert plan.notes[0].endswith("so the data set's 5 are measured as one, `item`")


def test_the_source_model_scores_what_val_says(trained: Trained, tmp_path: Path) -> None:
    plan = plan_recipe(trained.folder / "one.yaml", tmp_path / "store")
    predictor = model.TorchPredictor(model.fused_module(read_checkpoint_model(plan.weights)), 1)
    view = plan.views["evaluation"]
    found = primary_score(predictor, view, plan.imgsz, Detect(view.names), "one-to-many")
    assert trained.map50_95 > 0.2
    assert found == pytest.approx(trained.map50_95, abs=0.005)


def test_check_says_ok_and_the_artifact_keeps_one_class(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, cache = str(trained.folder / "one.yaml"), str(tmp_path / "store")
    assert main(["check", recipe, "--cache", cache]) == 0
    assert capsys.readouterr().out.endswith("one.yaml: ok\n")
    assert main(["build", recipe, "--cache", cache, "-q"]) == 0
    assert yolodeploy_torch.facts(trained.folder / "one.pt").single_cls is True
