"""Classification and rotated boxes from images on disk to measures and golden vectors, as evidence is taken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolodeploy.backend import ModelInfo
from yolodeploy.data import Dataset, load_view
from yolodeploy.errors import StepFailed
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import (
    Golden,
    Key,
    Recorder,
    Tally,
    accuracy,
    app_rules,
    evaluate,
    one,
    postprocess_of,
    read_findings,
    task_of,
)
from yolodeploy.tasks.obb import to_corners

COLOURS = ("blue", "green", "red")  # the classes, in their order; images are RGB


def _run(
    view: Dataset, info: ModelInfo, source: Any, artifact: Any, folder: Path, side: int
) -> Tally:
    """The source's findings are stored and read again, as for evidence; then the artifact runs."""
    task, shape = task_of(info), info.images(ImageShape.square(side))
    recorder = Recorder(folder, len(view), task)
    for seen in evaluate(view, shape, [source], task=task, head="one-to-many"):
        recorder.add(seen)
    recorder.finish()
    findings = read_findings(folder, task)
    tally, golden = Tally(task, source=findings.found), Golden(folder / "golden", task.app)
    (folder / "golden").mkdir()
    for seen in evaluate(view, shape, [artifact], task=task, head="one-to-many"):
        tally.add(seen, findings.outputs.get(seen.number))
        golden.offer(seen)
    golden.finish()
    return tally


def _by_colour(images: np.ndarray) -> np.ndarray:
    """Probabilities from the mean of each channel."""
    means = images.mean(axis=(2, 3))[:, ::-1] * 8
    table: np.ndarray = np.exp(means) / np.exp(means).sum(1, keepdims=True)
    return table.astype(np.float32)


def _colour_blind(images: np.ndarray) -> np.ndarray:
    """Takes red for green where the image is dark."""
    found = _by_colour(images)
    return found[:, [0, 2, 1]] if images.max() < 0.5 else found


def test_classification(tmp_path: Path) -> None:
    """12 images of each colour, 8 of the red ones dark: the artifact is wrong in those, and in 0 of the others."""
    for place, name in enumerate(COLOURS):
        (tmp_path / "set/val" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.zeros((40 + number, 60, 3), np.uint8)
            pixels[..., place] = 100 if name == "red" and number < 8 else 200
            cv2.imwrite(str(tmp_path / f"set/val/{name}/{name}{number}.png"), pixels)
    view = load_view(tmp_path / "set", View(), 0, task="classify").for_model(COLOURS)
    info = ModelInfo("classify", COLOURS, (1,), 1, fit="crop")
    tally = _run(view, info, _by_colour, _colour_blind, tmp_path, 64)
    measures = accuracy(tally, labelled=True)
    top1, red = one(measures, Key.TOP1), one(measures, Key.CLASS_AP, "red")
    assert measures[0] == top1
    assert (top1.source, top1.loss, top1.count) == (1, round(8 / 36, 6), 36)
    assert (red.source, red.artifact) == (1, pytest.approx(4 / 12))
    fidelity, divergence = one(measures, Key.FIDELITY), one(measures, Key.DIVERGENCE)
    assert (fidelity.artifact, fidelity.count) == (pytest.approx(28 / 36), 36)
    high = math.exp(8 * 100 / 255)
    apart = (
        (high - 1) / (high + 2) * math.log(high)
    )  # where two of three probabilities change places
    assert divergence.artifact == pytest.approx(apart * 8 / 36, rel=1e-4)
    assert one(measures, Key.OUTPUT_DIFF, "probabilities").artifact == pytest.approx((high - 1) / (high + 2), rel=1e-4)  # fmt: skip
    golden = json.loads((tmp_path / "golden/classes.json").read_text())
    assert golden["classes"][0]["name"] == "blue"
    assert (
        golden["layout"] == postprocess_of(info, app_rules("classify"), "anchors")["layout"]
    )  # or `verify` complains
    assert golden["letterbox"]["top"] == 0
    assert golden["letterbox"]["left"] == -round((int(64 * 60 / 40) - 64) / 2)


class _Finder:
    """Finds the bright rectangle of an image, `shift` pixels to the right."""

    def __init__(self, shift: float = 0) -> None:
        self.shift = shift

    def __call__(self, images: np.ndarray) -> np.ndarray:
        points = np.argwhere(images[0, 0] > 0.7)[:, ::-1].astype(np.float32)
        (x, y), (w, h), degrees = cv2.minAreaRect(points)
        anchors = [
            [x + self.shift, y, w + 1, h + 1, 0.9, math.radians(degrees)],
            [5, 5, 4, 4, 0.02, 0],
        ]
        return np.array(anchors, np.float32).T[None]


def test_rotated_boxes(tmp_path: Path) -> None:
    """One rectangle in each image; of 60 x 30 pixels of the input: a shift by 4 makes ProbIoU about 0.8."""
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for number in range(12):
        box = np.array([[160 + 4 * number, 130, 120, 60, 0.2 * number]])
        corners = to_corners(box)[0]
        pixels = np.full((240, 320, 3), 20, np.uint8)
        cv2.fillPoly(pixels, [corners.round().astype(np.int32)], (255, 255, 255), cv2.LINE_AA)
        cv2.imwrite(str(tmp_path / f"images/val/{number}.png"), pixels)
        row = " ".join(f"{value:.6f}" for value in (corners / (320, 240)).reshape(-1))
        (tmp_path / f"labels/val/{number}.txt").write_text(f"0 {row}\n")
    (tmp_path / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [thing]\n")
    view = load_view(tmp_path / "data.yaml", View(), 0, task="obb")
    tally = _run(view, ModelInfo("obb", ("thing",), (8,), 1), _Finder(), _Finder(4), tmp_path, 160)
    measures = accuracy(tally, labelled=True)
    overall = one(measures, Key.MAP50_95)
    assert measures[0] == overall
    assert overall.source == pytest.approx(1)
    assert overall.artifact == pytest.approx(0.8, abs=0.05)
    assert one(measures, Key.MAP50).artifact == 1
    assert one(measures, Key.SIZE_AP, "medium").source == pytest.approx(1)
    fidelity = one(measures, Key.FIDELITY)
    assert (fidelity.count, fidelity.artifact) == (12, pytest.approx(overall.artifact, abs=0.1))
    assert one(measures, Key.OUTPUT_DIFF, "boxes_px").artifact == pytest.approx(4)
    assert one(measures, Key.OUTPUT_DIFF, "angles_rad").artifact == 0
    golden = json.loads((tmp_path / "golden/detections.json").read_text())["detections"]
    assert len(golden) == 1
    assert golden[0]["centre"] == pytest.approx(
        [160 + 10, 130], abs=3
    )  # 2 pixels of 64 are 10 of 320


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(StepFailed, match="the task `depth` cannot be measured"):
        task_of(ModelInfo("depth", (), (), 0))
