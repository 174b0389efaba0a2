"""Rotated boxes are those of Ultralytics: ProbIoU, suppression, labels and average precision, on random inputs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from yolodeploy.data import Corners
from yolodeploy.tasks import Key, Obb, Rules, one
from yolodeploy.tasks.obb import Rotated, Truth, prob_iou, to_corners
from yolodeploy.tasks.obb.labels import smallest_rectangle
from yolodeploy.tasks.obb.postprocess import decode, suppress

pytest.importorskip("ultralytics", reason="pip install 'yolodeploy[train]'")
torch = pytest.importorskip("torch")
NAMES = ("a", "b", "c")


def boxes(random: np.random.Generator, count: int, span: float = 300) -> np.ndarray:
    """Random boxes `[n, 5]`, thin ones and squares among them."""
    sides = random.uniform(2, 60, (2, count))
    sides[1, ::7] = sides[0, ::7]
    angles = random.uniform(-np.pi / 4, 3 * np.pi / 4, count)
    return np.stack([*random.uniform(0, span, (2, count)), *sides, angles], 1).astype(np.float32)


def test_prob_iou_and_corners() -> None:
    from ultralytics.utils.metrics import batch_probiou
    from ultralytics.utils.ops import xywhr2xyxyxyxy

    random = np.random.default_rng(0)
    ours, theirs = boxes(random, 300, 100), boxes(random, 200, 100)
    tensors = (torch.from_numpy(each).double() for each in (ours, theirs))
    wanted = batch_probiou(*tensors).numpy()
    assert abs(prob_iou(ours[:, None], theirs[None]) - wanted).max() < 1e-12
    corners = xywhr2xyxyxyxy(torch.from_numpy(ours)).numpy()
    assert abs(to_corners(ours) - corners).max() < 1e-4


@pytest.mark.parametrize("several", [True, False])
def test_suppression(several: bool) -> None:
    from ultralytics.utils.nms import non_max_suppression

    random = np.random.default_rng(1)
    for iou, count in ((0.7, 300), (0.45, 60), (0.7, 1)):
        scores = random.uniform(0, 1, (3, count)) ** 3
        table = boxes(random, count, 120)
        raw = np.concatenate([table[:, :4].T, scores, table[:, 4:].T]).astype(np.float32)
        (theirs,) = non_max_suppression(
            torch.from_numpy(raw)[None].double(), 0.1, iou, multi_label=several, nc=3, rotated=True, max_det=300
        )  # fmt: skip
        rules = Rules(0.1, iou, 300, several)
        found = suppress(decode(raw, rules), rules)
        assert len(found) == len(theirs)
        assert abs(found.boxes - theirs[:, [0, 1, 2, 3, 6]].numpy()).max(initial=0) < 1e-3
        assert np.array_equal(found.classes, theirs[:, 5].numpy().astype(int))


def test_labels_are_the_smallest_rectangles() -> None:
    """Rectangles and other quadrilaterals; of a square the angle is that of any side."""
    from ultralytics.utils.ops import xyxyxyxy2xywhr

    random = np.random.default_rng(2)
    rectangles = to_corners(boxes(random, 200)) / (400, 300)
    others = random.uniform(0, 1, (100, 4, 2))
    labels = [Corners(0, tuple(map(tuple, points.tolist()))) for points in (*rectangles, *others)]
    found = np.array([smallest_rectangle(label, 400, 300) for label in labels])
    points = np.array([label.points for label in labels]) * (400, 300)
    theirs = xyxyxyxy2xywhr(points.reshape(-1, 8).astype(np.float32))
    assert abs(found[:, :4] - theirs[:, :4]).max() < 0.01
    square = abs(found[:, 2] - found[:, 3]) < 0.01
    apart = abs(found[:, 4] - theirs[:, 4]) % np.where(square, np.pi / 2, np.pi)
    assert np.minimum(apart, np.where(square, np.pi / 2, np.pi) - apart).max() < 2e-3
    assert (found[:, 2] >= found[:, 3]).all()
    assert (found[:, 4] >= -np.pi / 4).all()
    assert (found[:, 4] < 3 * np.pi / 4).all()


def test_average_precision() -> None:
    """To 0.005: Ultralytics samples precision at 101 points and interpolates between them, see docs/decisions/003-map.md."""
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import ap_per_class, batch_probiou

    random, validator = (
        np.random.default_rng(3),
        SimpleNamespace(iouv=torch.linspace(0.5, 0.95, 10)),
    )
    truths, found, columns = [], [], []
    for _ in range(60):
        labels, classes = boxes(random, 12), random.integers(0, 3, 12)
        seen = np.repeat(labels, 2, axis=0) + random.normal(0, 1.5, (24, 5)) * (1, 1, 1, 1, 0.04)
        table = np.concatenate([seen, boxes(random, 12)]).astype(np.float32)
        guesses = np.concatenate([np.repeat(classes, 2), random.integers(0, 3, 12)])
        scores = np.concatenate([random.beta(3, 2, 24), random.beta(2, 4, 12)]).astype(np.float32)
        order = np.argsort(-scores)
        found.append(Rotated(table[order], scores[order], guesses[order]))
        truths.append(Truth(labels.astype(np.float64), classes))
        similar = batch_probiou(torch.from_numpy(labels), torch.from_numpy(table[order]))
        classes_ = map(torch.from_numpy, (guesses[order], classes))
        hits = BaseValidator.match_predictions(validator, *classes_, similar)
        columns.append((hits.numpy(), scores[order], guesses[order], classes))
    theirs = ap_per_class(*(np.concatenate(column) for column in zip(*columns, strict=True)))[5]
    task = Obb(NAMES)
    measures = list(task.against_labels(truths, found, found, 0.9))
    overall = one(measures, Key.MAP50_95)
    assert overall.artifact == pytest.approx(theirs.mean(), abs=0.005)
    assert overall.artifact == task.score(truths, found)
    assert one(measures, Key.MAP50).artifact == pytest.approx(theirs[:, 0].mean(), abs=0.005)
    for name, wanted in zip(NAMES, theirs.mean(1), strict=True):
        assert one(measures, Key.CLASS_AP, name).artifact == pytest.approx(wanted, abs=0.005)
    assert 0.3 < overall.artifact < 0.9
