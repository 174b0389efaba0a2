"""The detection loss against that of Ultralytics; images without objects; bfloat16; one anchor per object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from real_model import RealModel
from torch import Tensor

from yolodeploy.backend import Artifact
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import Detection
from yolodeploy_torch.losses.assigner import assign, find_candidates
from yolodeploy_torch.losses.detection import DetectionLoss, Losses, Targets
from yolodeploy_torch.losses.iou import ciou
from yolodeploy_torch.model import Logits, Trainable, read, threads
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training.batches import Batch, Batches

NONE = Targets(
    torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)
)
NAMES = tuple(map(str, range(80)))
SIZE = 160
SHAPE = ImageShape.square(SIZE)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def model(loaded: Artifact) -> Trainable:
    return Trainable(read(loaded.path))


@pytest.fixture(scope="module")
def theirs(demo: RealModel) -> Any:
    """Ultralytics' loss for the demo model; a value per part, times the number of images."""
    ultralytics = pytest.importorskip("ultralytics", reason="pip install 'yolodeploy[train]'")
    from ultralytics.cfg import get_cfg
    from ultralytics.utils.loss import v8DetectionLoss

    original = ultralytics.YOLO(demo.weights).model.float()
    original.args = get_cfg()
    return v8DetectionLoss(original)


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="val", images=8), 0)


@pytest.fixture(scope="module")
def batch(view: Dataset) -> Batch:
    """Real images joined by fours, so that boxes are cut, small, and many."""
    return next(Batches(view, SHAPE, Augment(mosaic=1.0), seed=1).epoch(0, 8))


def _logits(model: Trainable, images: Tensor) -> Logits:
    """The logits of a model, detached and collecting gradients."""
    with torch.no_grad():
        return _fresh(_run(model, images))


def _run(model: Trainable, images: Tensor) -> Logits:
    found: Logits = model(images).heads["one-to-many"]
    return found


def _fresh(logits: Logits) -> Logits:
    return Logits(*([x.detach().clone().requires_grad_() for x in levels] for levels in logits[:2]))


def _gradients(total: Tensor, logits: Logits) -> list[Tensor]:
    total.backward()
    return [x.grad for levels in logits[:2] for x in levels if x.grad is not None]


def _ask(theirs: Any, logits: Logits, targets: Targets, images: int) -> Tensor:
    boxes, scores = (torch.cat([x.flatten(2) for x in levels], 2) for levels in logits[:2])
    given = {"boxes": boxes, "scores": scores, "feats": logits[0]}
    image, order = targets.image.sort(stable=True)  # what it expects
    labels = {"batch_idx": image, "cls": targets.cls[order, None], "bboxes": targets.boxes[order]}
    return theirs(given, labels)[0] / images


def _random(strides: tuple[int, ...], bins: int, classes: int) -> Logits:
    """Logits of four images."""
    generator = torch.Generator().manual_seed(5)
    levels = [
        [torch.randn(4, count, SIZE // s, SIZE // s, generator=generator) for s in strides]
        for count in (4 * bins, classes)
    ]
    return _fresh(Logits(*levels))


def _crowd() -> Targets:
    """Boxes of one place and size, one in another, tiny and thin ones, one of the whole image."""
    generator = torch.Generator().manual_seed(3)
    centre = torch.rand(40, 2, generator=generator) * 0.3 + 0.35
    size = torch.rand(40, 2, generator=generator) * torch.logspace(-2, -0.5, 40)[:, None] + 0.01
    boxes = torch.cat((centre, size), dim=1)
    boxes[-1] = torch.tensor([0.5, 0.5, 1.0, 1.0])
    boxes[-2] = boxes[-3]
    # the second of the four images has no object, and the objects are not sorted by image
    image = torch.tensor([0, 3, 2, 0]).repeat(10)
    return Targets(image, torch.arange(40) % 5, boxes)


@pytest.mark.parametrize("case", ["real", "wide", "crowd", "none"])
def test_value_and_gradient_are_those_of_ultralytics(
    case: str, model: Trainable, theirs: Any, batch: Batch, view: Dataset
) -> None:
    shape = ImageShape(96, 160) if case == "wide" else SHAPE
    if case in ("real", "wide"):
        batch = next(Batches(view, shape, Augment(mosaic=1.0), seed=1).epoch(0, 8))
        logits, targets = _logits(model, batch.images), batch.targets
    else:
        logits = _random((8, 16, 32), 16, 5)
        targets = _crowd() if case == "crowd" else NONE
    count, copy = len(logits[0][0]), _fresh(logits)
    ours: Losses = DetectionLoss(model.graph.head)(logits, targets, shape)
    expected = _ask(theirs, copy, targets, count)
    assert torch.allclose(torch.stack(tuple(ours)), expected, rtol=1e-4, atol=1e-7)
    found, wanted = _gradients(ours.total, logits), _gradients(expected.sum(), copy)
    assert len(found) == len(wanted) == 6
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm()) <= 1e-4 * float(other.norm())


def test_plain_distances_and_other_strides_are_assigned_as_ultralytics_does() -> None:
    """Boxes and scores of a head of one bin and four levels; its own loss of distances differs: see the module."""
    ultralytics = pytest.importorskip("ultralytics", reason="pip install 'yolodeploy[train]'")
    from ultralytics.cfg import get_cfg
    from ultralytics.utils.loss import v8DetectionLoss

    original = ultralytics.YOLO("yolo26n-p2.yaml", verbose=False).model
    original.args = get_cfg()
    strides = tuple(int(stride) for stride in original.stride)
    assert strides == (4, 8, 16, 32)
    head = Detection.model_construct(names=NAMES, strides=strides, reg_max=1)
    logits = _random(strides, 1, len(NAMES))
    for level in logits.boxes:
        level.data.add_(1.5)  # some of the distances are negative, as they may be
    copy = _fresh(logits)
    ours = DetectionLoss(head)(logits, _crowd(), SHAPE)
    expected = _ask(v8DetectionLoss(original), copy, _crowd(), 4)
    assert torch.allclose(torch.stack(tuple(ours))[:2], expected[:2], rtol=1e-4)
    found, wanted = (
        _gradients(loss[:2].sum(), x)
        for loss, x in ((torch.stack(tuple(ours)), logits), (expected, copy))
    )
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm()) <= 1e-4 * float(other.norm())


def test_plain_distances_learn_the_sides_of_a_box_at_one_anchor() -> None:
    """Logits that follow the gradient: two of the distances of every anchor are negative before."""
    head = Detection.model_construct(names=NAMES[:2], strides=(8, 16), reg_max=1)
    sides = torch.tensor([1.0, 1.0, -0.2, -0.2])[:, None, None]
    logits = _fresh(
        Logits(
            [sides.expand(1, 4, s, s) for s in (8, 4)],
            [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)],
        )
    )
    box = Targets(torch.tensor([0]), torch.tensor([1]), torch.tensor([[0.4, 0.6, 0.3, 0.2]]))
    loss = DetectionLoss(head, top_k=1)
    optimizer = torch.optim.Adam([x for levels in logits[:2] for x in levels], 0.1)
    for _ in range(80):
        optimizer.zero_grad()
        found = loss(logits, box, ImageShape.square(64))
        found.total.backward()
        optimizer.step()
    assert found.box.item() < 0.15
    assert found.distance.item() < 0.1
    sure = [int((level.sigmoid() > 0.9).sum()) for level in logits.scores]
    assert sum(sure) == 1
    assert not any((level[:, 0].sigmoid() > 0.1).any() for level in logits.scores)


def test_one_anchor_per_object_is_the_best_of_many() -> None:
    """Two boxes whose best anchor is the same one, and a third: each gets one of its own."""
    corners = torch.tensor([[0.0, 0, 40, 40], [4, 4, 44, 44], [60, 60, 80, 80]])
    points = torch.tensor([[20.0, 28, 36, 70], [20, 20, 20, 70]])
    matches = find_candidates(corners, torch.zeros(3, dtype=torch.int64), points, 16)
    predicted = torch.tensor([[0.0, 0, 40, 40], [2, 2, 42, 42], [9, 9, 49, 49], [60, 60, 80, 80]])
    scores = torch.tensor([0.5, 0.9, 0.4, 0.3])[matches.anchor]
    given = matches, predicted[matches.anchor], scores, corners, 4
    many, _ = assign(*given)
    one, wanted = assign(*given, top_k=1)
    assert sorted(one.box.tolist()) == [0, 1, 2]
    assert len(set(one.anchor.tolist())) == 3
    pairs = {*zip(many.box.tolist(), many.anchor.tolist(), strict=True)}
    assert {*zip(one.box.tolist(), one.anchor.tolist(), strict=True)} < pairs
    overlap = ciou(predicted[one.anchor], corners[one.box])
    assert torch.allclose(wanted, overlap, atol=1e-4), "the score to reach is the overlap"


def test_images_without_objects_teach_low_scores_alone(model: Trainable, batch: Batch) -> None:
    logits = _logits(model, batch.images[:2])
    loss = DetectionLoss(model.graph.head)(logits, NONE, SHAPE)
    assert loss.box.item() == loss.distance.item() == 0
    assert loss.cls.item() > 0
    gradients = _gradients(loss.total, logits)
    assert not any(gradient.any() for gradient in gradients[:3])
    assert all((gradient > 0).all() for gradient in gradients[3:])


def test_float32_whatever_the_logits_are(model: Trainable, batch: Batch) -> None:
    targets = Targets(*(part[batch.targets.image == 0] for part in batch.targets))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = _run(model, batch.images[:1])
        found = DetectionLoss(model.graph.head)(logits, targets, SHAPE)
    assert logits[0][0].dtype == torch.bfloat16
    assert found.total.dtype == torch.float32
    exact = Logits(*([x.float() for x in levels] for levels in logits[:2]))
    assert found == DetectionLoss(model.graph.head)(exact, targets, SHAPE)


def test_same_bits_twice(model: Trainable, batch: Batch) -> None:
    loss = DetectionLoss(model.graph.head)
    runs = []
    for _ in range(2):
        logits = _logits(model, batch.images)
        found = loss(logits, batch.targets, SHAPE)
        runs.append([*found, *_gradients(found.total, logits)])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
