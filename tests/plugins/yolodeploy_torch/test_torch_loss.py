"""The detection loss against that of Ultralytics; images without objects; bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from real_model import RealModel
from torch import Tensor
from yolodeploy_torch.model.modules import Yolo

from yolodeploy.backend import Artifact
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_torch.model.artifact import read
from yolodeploy_torch.model.runtime import threads
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training.batches import Batch, Batches
from yolodeploy_torch.training.detection_loss import DetectionLoss, Losses, Targets

Logits = tuple[list[Tensor], list[Tensor]]
NONE = Targets(
    torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)
)
SIZE = 160
SHAPE = ImageShape.square(SIZE)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def model(loaded: Artifact) -> Yolo:
    return read(loaded.path)


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


def _logits(model: Yolo, images: Tensor) -> Logits:
    """The logits of a model, detached and collecting gradients."""
    with torch.no_grad():
        return _fresh(model.logits(images))


def _fresh(logits: Logits) -> Logits:
    boxes, scores = ([x.detach().clone().requires_grad_() for x in levels] for levels in logits)
    return boxes, scores


def _gradients(total: Tensor, logits: Logits) -> list[Tensor]:
    total.backward()
    return [x.grad for levels in logits for x in levels if x.grad is not None]


def _ask(theirs: Any, logits: Logits, targets: Targets, images: int) -> Tensor:
    boxes, scores = (torch.cat([x.flatten(2) for x in levels], 2) for levels in logits)
    given = {"boxes": boxes, "scores": scores, "feats": logits[0]}
    image, order = targets.image.sort(stable=True)  # what it expects
    labels = {"batch_idx": image, "cls": targets.cls[order, None], "bboxes": targets.boxes[order]}
    return theirs(given, labels)[0] / images


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
    case: str, model: Yolo, theirs: Any, batch: Batch, view: Dataset
) -> None:
    shape = ImageShape(96, 160) if case == "wide" else SHAPE
    if case in ("real", "wide"):
        batch = next(Batches(view, shape, Augment(mosaic=1.0), seed=1).epoch(0, 8))
        logits, targets = _logits(model, batch.images), batch.targets
    else:
        generator = torch.Generator().manual_seed(5)
        shapes = [x.shape[1:] for x in _logits(model, batch.images[:1])[0]]
        random = [
            [torch.randn(4, channels or s[0], *s[1:], generator=generator) for s in shapes]
            for channels in (0, 5)
        ]
        logits = _fresh((random[0], random[1]))
        targets = _crowd() if case == "crowd" else NONE
    count, copy = len(logits[0][0]), _fresh(logits)
    ours: Losses = DetectionLoss(model.arch)(*logits, targets, shape)
    expected = _ask(theirs, copy, targets, count)
    assert torch.allclose(torch.stack(tuple(ours)), expected, rtol=1e-4, atol=1e-7)
    found, wanted = _gradients(ours.total, logits), _gradients(expected.sum(), copy)
    assert len(found) == len(wanted) == 6
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm()) <= 1e-4 * float(other.norm())


def test_images_without_objects_teach_low_scores_alone(model: Yolo, batch: Batch) -> None:
    logits = _logits(model, batch.images[:2])
    loss = DetectionLoss(model.arch)(*logits, NONE, SHAPE)
    assert loss.box.item() == loss.dfl.item() == 0
    assert loss.cls.item() > 0
    gradients = _gradients(loss.total, logits)
    assert not any(gradient.any() for gradient in gradients[:3])
    assert all((gradient > 0).all() for gradient in gradients[3:])


def test_float32_whatever_the_logits_are(model: Yolo, batch: Batch) -> None:
    targets = Targets(*(part[batch.targets.image == 0] for part in batch.targets))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(batch.images[:1])
        found = DetectionLoss(model.arch)(*logits, targets, SHAPE)
    assert logits[0][0].dtype == torch.bfloat16
    assert found.total.dtype == torch.float32
    exact = ([x.float() for x in levels] for levels in logits)
    assert found == DetectionLoss(model.arch)(*exact, targets, SHAPE)


def test_same_bits_twice(model: Yolo, batch: Batch) -> None:
    loss = DetectionLoss(model.arch)
    runs = []
    for _ in range(2):
        logits = _logits(model, batch.images)
        found = loss(*logits, batch.targets, SHAPE)
        runs.append([*found, *_gradients(found.total, logits)])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
