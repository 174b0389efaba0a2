"""Classification: accuracy against figures worked out here and Ultralytics' own, and what apps and reports are told."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolodeploy.data import Letterboxed, load_view
from yolodeploy.recipe import View
from yolodeploy.tasks import Classify, Key, Measure, one
from yolodeploy.tasks.classify.contract import classify_postprocess

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")
TASK = Classify(NAMES)


def _probabilities(images: int, classes: int = len(NAMES), seed: int = 0) -> list[np.ndarray]:
    logits = np.random.default_rng(seed).normal(0, 2, (images, classes))
    table = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return list(table.astype(np.float32))


def _sure(*classes: int) -> list[np.ndarray]:
    """Probabilities that name these classes: 0.75 of it, 0.05 of each other one."""
    return [np.where(np.arange(6) == cls, 0.75, 0.05).astype(np.float32) for cls in classes]


def test_an_image_is_of_the_class_of_its_folder(tmp_path: Path) -> None:
    for name, count in (("cat", 2), ("bee", 1)):
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(tmp_path / "val" / name / f"{name}{number}.png"), np.zeros((20, 30, 3)))
    view = load_view(tmp_path, View(), 0, task="classify").for_model(NAMES)
    truths = [TASK.truth(view, image, 30, 20) for image in view.images]
    assert [NAMES[cls] for cls in truths] == ["bee", "cat", "cat"]
    outputs = {"output": _sure(2)[0]}
    box = Letterboxed(np.zeros((8, 8, 3), np.uint8), (0.4, 0.4), -2, 0, 30, 20)
    found = TASK.found(outputs, TASK.app, box, "anchors")
    assert found.tolist() == outputs["output"].tolist()
    assert TASK.as_truth(found, 0) == 2
    assert TASK.count(found) == 1


def test_accuracy_is_that_of_ultralytics() -> None:
    metrics = pytest.importorskip(
        "ultralytics.utils.metrics", reason="pip install 'yolodeploy[train]'"
    )
    import torch

    source, artifact = _probabilities(60), _probabilities(60, seed=1)
    truths = np.random.default_rng(2).integers(0, 6, 60).tolist()
    measures = list(TASK.against_labels(truths, source, artifact, 0.9))
    for found, which in ((source, "source"), (artifact, "artifact")):
        theirs = metrics.ClassifyMetrics()
        order = torch.from_numpy(np.stack(found)).argsort(1, descending=True)[:, :5]
        theirs.process([torch.tensor(truths)], [order])
        assert getattr(one(measures, Key.TOP1), which) == pytest.approx(theirs.top1)
        assert getattr(one(measures, Key.TOP5), which) == pytest.approx(theirs.top5)
    assert TASK.score(truths, artifact) == one(measures, Key.TOP1).artifact


def test_drops_by_class_with_intervals() -> None:
    """Of 40 images, 12 of class 0 and 20 of class 1 and 8 of class 2; the artifact takes 3 of class 0 for class 5."""
    truths = [0] * 12 + [1] * 20 + [2] * 8
    source, artifact = _sure(*truths), _sure(5, 5, 5, *truths[3:])
    measures = list(TASK.against_labels(truths, source, artifact, 0.9))
    top1 = one(measures, Key.TOP1)
    assert measures[0] == top1
    assert (top1.source, top1.artifact, top1.loss, top1.count) == (1.0, 0.925, 0.075, 40)
    assert top1.interval is not None
    low, high = top1.interval
    deviation = math.sqrt(0.075 * 0.925 / 40)  # of a binomial share: the normal interval is near
    assert low == pytest.approx(0.075 - 1.645 * deviation, abs=0.03)
    assert high == pytest.approx(0.075 + 1.645 * deviation, abs=0.03)
    ant, bee, cat, dog = (one(measures, Key.CLASS_AP, name) for name in NAMES[:4])
    assert (ant.artifact, ant.loss, ant.count) == (0.75, 0.25, 12)
    assert ant.interval is not None
    assert ant.interval[0] < 0.25 < ant.interval[1]
    unseen = 1 - 0.05 ** (1 / 20)  # 20 images without a change do not say that there is none
    assert (bee.loss, bee.count) == (0, 20)
    assert bee.interval == pytest.approx((-unseen, unseen), abs=1e-6)
    assert (cat.loss, cat.interval, cat.count) == (0, None, 8)  # too few images for an interval
    none = "no evaluation image is of this class"
    assert dog == Measure(Key.CLASS_AP, None, None, group="dog", count=0, reason=none)


def test_five_classes_say_nothing_of_the_best_five() -> None:
    task, found = Classify(NAMES[:5]), _probabilities(3, 5)
    top5 = one(task.against_labels([0, 1, 2], found, found, 0.9), Key.TOP5)
    assert (top5.source, top5.artifact) == (None, None)
    assert "always among the five best" in top5.reason


def test_fidelity_and_divergence() -> None:
    source, artifact = _sure(0, 1, 2, 3), _sure(0, 1, 2, 4)
    labels = [TASK.as_truth(found, 0) for found in source]
    assert TASK.score(labels, artifact) == 0.75  # the fidelity
    assert sum(map(TASK.objects, labels)) == 4
    (apart,) = TASK.agreement(source, artifact)
    wanted = (0.75 * math.log(0.75 / 0.05) + 0.05 * math.log(0.05 / 0.75)) / 4  # one image in four
    assert (apart.key, apart.count) == (Key.DIVERGENCE, 4)
    assert apart.artifact == pytest.approx(wanted, abs=1e-6)
    assert apart.loss is None
    assert not apart.higher_is_better
    zero = [np.eye(6, dtype=np.float32)[0]]
    assert TASK.agreement(zero, zero)[0].artifact == 0
    # probabilities of 0 count as 1e-7: the greatest divergence is finite
    (apart,) = TASK.agreement(zero, [np.eye(6, dtype=np.float32)[1]])
    assert apart.artifact == pytest.approx(-math.log(1e-7), rel=1e-5)


def test_without_images_nothing_is_measured() -> None:
    assert math.isnan(TASK.score([], []))
    for measure in (*TASK.against_labels([], [], [], 0.9), *TASK.agreement([], [])):
        assert measure.artifact is None
        assert measure.reason == "there is no evaluation image"


def test_noise_sees_what_softmax_hides() -> None:
    """Logits that are 1 % larger: a noise power of 1e-4, however sure the model is."""
    for scale in (0.1, 1, 5):
        logits = np.random.default_rng(0).normal(0, scale, (8, 6))
        logits = logits.clip(-2 * scale, scale)  # no probability below the floor
        exact, close = (
            [{"output": (np.exp(row) / np.exp(row).sum()).astype(np.float32)} for row in factor]
            for factor in (logits, logits * 1.01)
        )
        assert TASK.noise(exact, close, "anchors") == pytest.approx(1e-4, rel=0.02)
        assert TASK.noise(exact, exact, "anchors") == 0


def test_what_are_no_probabilities() -> None:
    def fault(*numbers: float) -> str | None:
        return TASK.fault({"output": np.array(numbers, np.float32)}, "anchors")

    assert fault(0.5, 0.495) is None
    assert fault(0.5, 0.25) == "has values that sum up to 0.75, but probabilities must sum up to 1"
    assert fault(3, -2) == "has values from -2 to 3, but probabilities must lie in 0 to 1"


def test_saved_and_loaded(tmp_path: Path) -> None:
    found = _probabilities(3)
    TASK.save(tmp_path / "found.npz", found)
    assert [one.tolist() for one in TASK.load(tmp_path / "found.npz")] == [
        one.tolist() for one in found
    ]
    TASK.save(tmp_path / "none.npz", [])
    assert TASK.load(tmp_path / "none.npz") == []


def test_differences_golden_contract_and_picture() -> None:
    found = np.array([0.05, 0.5, 0.05, 0.2, 0.15, 0.05], np.float32)
    differences = TASK.differences({"output": found}, {"output": found[::-1]}, "anchors")
    assert differences["probabilities"].max() == pytest.approx(0.35)
    golden = TASK.golden(found)["classes"]
    assert [row["name"] for row in golden] == [
        "bee",
        "dog",
        "eel",
        "ant",
        "cat",
    ]  # of equals the first
    assert golden[0] == {"class": 1, "name": "bee", "probability": 0.5}
    contract = classify_postprocess(TASK.app, len(TASK.names))
    assert (contract["best"], contract["nms"]) == (5, "none")
    assert contract["outputs"] == {"output": "[6] probabilities in 0..1, their sum is 1"}
    assert "after softmax" in contract["rule"]
    shapes = TASK.shapes(found)
    assert [shape.name for shape in shapes] == [row["name"] for row in golden]
    assert [shape.score for shape in shapes] == [0.5, 0.2, 0.15, 0.05, 0.05]
    assert [(s.name, s.score, s.outlines) for s in TASK.truth_shapes(3)] == [("dog", None, ())]
