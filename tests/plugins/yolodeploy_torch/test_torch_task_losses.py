"""Losses on the labels of masks, poses and rotated boxes: against Ultralytics at the same predictions, and by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from yolodeploy.system import ImageShape
from yolodeploy.tasks.obb import prob_iou as measured
from yolodeploy_torch.graph import Detection, grid
from yolodeploy_torch.losses.assigner import Matches
from yolodeploy_torch.losses.detection import Targets
from yolodeploy_torch.losses.iou import prob_iou
from yolodeploy_torch.losses.keypoints import KEYPOINT_GAIN, VISIBLE_GAIN, keypoint_losses
from yolodeploy_torch.losses.labelled import LabelLoss
from yolodeploy_torch.losses.masks import MASK_GAIN, mask_loss
from yolodeploy_torch.losses.rotated import RotatedLoss
from yolodeploy_torch.model import Logits, threads

SIZE = 96
SHAPE = ImageShape.square(SIZE)
STRIDES = (8, 16, 32)
ANCHORS = sum((SIZE // stride) ** 2 for stride in STRIDES)
NAMES = ("a", "b", "c")
KEYPOINTS = (17, 3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


class Case(NamedTuple):
    """Random predictions of a head for two images, their raw extras [2, E, A], and labels."""

    logits: Logits
    raw: Tensor
    targets: Targets


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def levels(values: Tensor) -> list[Tensor]:
    """Split [N, C, A] into maps."""
    parts = values.split([(SIZE // stride) ** 2 for stride in STRIDES], dim=2)
    return [part.unflatten(2, (SIZE // s, -1)) for part, s in zip(parts, STRIDES, strict=True)]


def case(extras: int, bins: int = 16) -> Case:
    raw = random(2, extras, ANCHORS, seed=1).requires_grad_()
    boxes, scores = random(2, 4 * bins, ANCHORS, seed=2), random(2, len(NAMES), ANCHORS, seed=3)
    logits = Logits(*([x.requires_grad_() for x in levels(each)] for each in (boxes, scores)))
    sizes = torch.tensor([[0.5, 0.3], [0.2, 0.4], [0.35, 0.35], [0.15, 0.1], [0.6, 0.5]])
    centres = torch.tensor([[0.4, 0.3], [0.7, 0.6], [0.3, 0.7], [0.5, 0.55], [0.5, 0.5]])
    image = torch.tensor([0, 0, 0, 1, 1])
    boxes = torch.cat((centres, sizes), dim=1)
    return Case(logits, raw, Targets(image, torch.tensor([0, 2, 1, 1, 0]), boxes))


def head(task: str, bins: int = 16) -> Detection:
    shape = KEYPOINTS if task == "pose" else None
    return Detection.model_construct(
        names=NAMES, strides=STRIDES, reg_max=bins, task=task, kpt_shape=shape
    )


def criterion(name: str, kind: str) -> Any:
    """A loss of Ultralytics for a model with three classes."""
    pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
    from ultralytics.cfg import get_cfg
    from ultralytics.nn import tasks
    from ultralytics.utils import loss

    model = getattr(tasks, f"{kind}Model")(f"{name}.yaml", nc=len(NAMES), verbose=False)
    model.args = get_cfg()
    return getattr(loss, f"v8{kind}Loss")(model)


def asked(given: Case, **more: Tensor) -> dict[str, Any]:
    """What Ultralytics' losses take of predictions."""
    flat = (torch.cat([x.flatten(2) for x in maps], 2) for maps in given.logits[:2])
    named = dict(zip(("boxes", "scores"), flat, strict=True))
    return {**named, "feats": given.logits.boxes, **more}


def labels(targets: Targets, **more: Tensor) -> dict[str, Tensor]:
    boxes = {"bboxes": targets.boxes, "img": torch.zeros(2, 3, SIZE, SIZE)}
    return {"batch_idx": targets.image, "cls": targets.cls[:, None], **boxes, **more}


def same_gradients(ours: Tensor, theirs: Tensor, values: list[Tensor]) -> None:
    found, wanted = (
        torch.autograd.grad(total, values, retain_graph=True) for total in (ours, theirs)
    )
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm()) <= 1e-4 * float(other.norm())
        assert float(other.norm()) > 0


def test_masks_as_ultralytics() -> None:
    given, prototypes = case(32), random(2, 32, 24, 24).requires_grad_()
    areas = torch.zeros(5, 24, 24, dtype=torch.uint8)
    owners = torch.zeros(2, 24, 24)
    for place, (image, box) in enumerate(
        zip(given.targets.image, given.targets.boxes, strict=True)
    ):
        left, top = ((box[:2] - box[2:] / 2) * 24 - 1).int().tolist()  # sticks out of the box
        right, bottom = ((box[:2] + box[2:] / 2) * 24 - 1).int().tolist()
        within = (given.targets.image[:place] == image).sum()
        owners[image, max(top, 0) : bottom, max(left, 0) : right] = float(within + 1)
    for place, image in enumerate(given.targets.image):
        within = (given.targets.image[:place] == image).sum()
        areas[place] = owners[image] == within + 1
    theirs = criterion("yolo11n-seg", "Segmentation")
    coefficients = {"mask_coefficient": given.raw, "proto": prototypes}
    wanted = theirs(asked(given, **coefficients), labels(given.targets, masks=owners))[0] / 2
    logits = given.logits._replace(decoded=given.raw)
    ours = LabelLoss(head("segment"), "one-to-many", SHAPE)(
        logits, prototypes, given.targets, areas
    )
    assert list(ours) == ["box", "cls", "distance", "mask"]
    found = torch.stack(list(ours.values()))
    torch.testing.assert_close(found, wanted[[0, 2, 3, 1]], rtol=1e-4, atol=1e-6)
    same_gradients(ours["mask"], wanted[1], [given.raw, prototypes])


def test_keypoints_as_ultralytics() -> None:
    given = case(51)
    points, steps = grid([(SIZE // s,) * 2 for s in STRIDES], STRIDES)
    parts = given.raw.unflatten(1, KEYPOINTS)
    places = (2 * parts[:, :, :2] + points - 0.5) * steps
    decoded = torch.cat((places, parts[:, :, 2:].sigmoid()), 2).flatten(1, 2)
    truth = torch.rand(5, 17, 3, generator=torch.Generator().manual_seed(4))
    truth[..., 2] = (truth[..., 2] * 3).floor()
    truth[3, :, 2] = 0  # nothing is labelled of it
    theirs = criterion("yolo11n-pose", "Pose")
    wanted = theirs(asked(given, kpts=given.raw), labels(given.targets, keypoints=truth))[0]
    logits = given.logits._replace(decoded=decoded, extras=levels(given.raw))
    span = torch.tensor([SIZE, SIZE, 1.0])
    loss = LabelLoss(head("pose"), "one-to-many", SHAPE)
    ours = loss(logits, None, given.targets, truth * span)
    assert list(ours) == ["box", "cls", "distance", "keypoints", "visibility"]
    found = torch.stack(list(ours.values()))
    torch.testing.assert_close(found, wanted[[0, 3, 4, 1, 2]] / 2, rtol=1e-4, atol=1e-6)
    same_gradients(ours["keypoints"] + ours["visibility"], wanted[1:3].sum() / 2, [given.raw])


def test_rotated_boxes_as_ultralytics() -> None:
    """Its scores and distances; it compares boxes in cells with somewhat wider distributions, which is up to 1 %."""
    given = case(1)
    angles = torch.tensor([0.3, 1.2, -0.5, 0.0, 2.0])[:, None]
    boxes = torch.cat((given.targets.boxes, angles), dim=1)
    theirs = criterion("yolo11n-obb", "OBB")
    targets = given.targets._replace(boxes=boxes)
    wanted = theirs(asked(given, angle=given.raw), labels(targets))[0] / 2
    span = torch.tensor([*[float(SIZE)] * 4, 1.0])
    logits = given.logits._replace(decoded=given.raw)
    ours = LabelLoss(head("obb"), "one-to-many", SHAPE)(logits, None, given.targets, boxes * span)
    assert list(ours) == ["box", "cls", "distance"]
    torch.testing.assert_close(ours["box"], wanted[0], rtol=1e-2, atol=0)
    torch.testing.assert_close(ours["cls"], wanted[1], rtol=1e-4, atol=0)
    torch.testing.assert_close(ours["distance"], wanted[2], rtol=1e-4, atol=0)
    same_gradients(ours["cls"], wanted[1], given.logits.scores)
    same_gradients(ours["distance"], wanted[2], given.logits.boxes)


def test_rotated_boxes_agree_as_they_are_measured() -> None:
    first = torch.rand(50, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [50.0, 50, 40, 20, 7]
    )
    second = first + random(50, 5) * torch.tensor([5.0, 5, 3, 3, 1])
    first, second = (
        torch.cat((x[:, :2], x[:, 2:4].abs() + 1, x[:, 4:]), 1) for x in (first, second)
    )
    found = prob_iou(first, second)
    assert np.allclose(found, measured(first.numpy(), second.numpy()), atol=2e-3)
    assert (prob_iou(first, first) > 0.999).all()
    turned = torch.stack((*first[:, :2].T, first[:, 3], first[:, 2], first[:, 4] + math.pi / 2), 1)
    assert (prob_iou(first, turned) > 0.99).all()


def test_a_rotated_box_that_is_found_has_no_loss_and_one_that_is_turned_learns_its_angle() -> None:
    """One anchor of stride 8 at (44, 44), which lies off the centre of a box of 48 x 16 px that is turned by 0.5."""
    angle, cell = 0.5, torch.tensor([44.0, 44.0])
    centre = cell + 8 * torch.tensor([math.cos(angle), math.sin(angle)])
    box = torch.tensor([[*centre.tolist(), 48.0, 16.0, angle]])
    sides = torch.tensor(
        [2.0, 1.0, 4.0, 1.0]
    )  # the anchor lies a cell left of the centre as the box sees it
    logits = Logits(
        levels(sides[None, :, None].expand(1, 4, ANCHORS)),
        levels(torch.full((1, 3, ANCHORS), -9.0)),
    )
    logits.scores[0].data[0, 1, 5, 5] = 9
    turns = torch.full((1, 1, ANCHORS), angle).requires_grad_()
    targets = Targets(torch.tensor([0]), torch.tensor([1]), torch.zeros(1, 4))
    loss = RotatedLoss(head("obb", 1), top_k=1)
    found = loss(logits._replace(decoded=turns), targets, box, SHAPE)
    assert found.box.item() < 0.01
    assert found.distance.item() < 1e-5
    off = loss(logits._replace(decoded=turns + 0.2), targets, box, SHAPE)
    assert off.box.item() > 0.5
    (slope,) = torch.autograd.grad(off.box, turns)
    place = 5 * (SIZE // 8) + 5
    assert slope[0, 0, place].item() > 0.1
    assert slope.count_nonzero() == 1


def test_a_mask_counts_within_its_box_alone_and_by_its_area() -> None:
    """Logits of 2 in a mask of 2 x 4 pixels and -1 elsewhere; all the loss is softplus, by hand."""
    prototypes = torch.full((1, 1, 8, 8), -1.0)
    prototypes[0, 0, 2:4, 2:6] = 2
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    masks[0, 2:4, 1:6] = 1  # a pixel more on the left in every row
    one = torch.tensor([0])
    wide, narrow = torch.tensor([[0.0, 1.0, 8.0, 5.0]]), torch.tensor([[2.0, 2.0, 6.0, 4.0]])
    matches, weights = Matches(one, one, one), torch.ones(1, 1, 1)
    softplus = torch.nn.functional.softplus
    inside, beside = softplus(torch.tensor(-2.0)).item(), softplus(torch.tensor(-1.0)).item()
    missed = softplus(torch.tensor(1.0)).item()
    expected = MASK_GAIN * (8 * inside + 2 * missed + 22 * beside) / 32
    found = mask_loss(weights, prototypes, masks, wide, matches)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found = mask_loss(weights, prototypes, masks, narrow, matches)
    assert found.item() == pytest.approx(MASK_GAIN * inside, rel=1e-5)


def test_no_objects_no_loss_of_shapes() -> None:
    """Of images without an object, with gradients that are 0."""
    given = case(32)
    none = Targets(*(part[:0] for part in given.targets))
    logits = given.logits._replace(decoded=given.raw)
    masks = torch.zeros(0, 24, 24, dtype=torch.uint8)
    prototypes = random(2, 32, 24, 24).requires_grad_()
    ours = LabelLoss(head("segment"), "one-to-many", SHAPE)(logits, prototypes, none, masks)
    assert [ours[part].item() for part in ("box", "distance", "mask")] == [0, 0, 0]
    assert not torch.autograd.grad(ours["mask"], given.raw)[0].any()
    pose = case(51)
    logits = pose.logits._replace(decoded=pose.raw, extras=levels(pose.raw))
    ours = LabelLoss(head("pose"), "one-to-many", SHAPE)(logits, None, none, torch.zeros(0, 17, 3))
    assert [ours[part].item() for part in ("keypoints", "visibility")] == [0, 0]
    rotated = case(1)
    logits = rotated.logits._replace(decoded=rotated.raw)
    ours = LabelLoss(head("obb"), "one-to-many", SHAPE)(logits, None, none, torch.zeros(0, 5))
    assert [ours[part].item() for part in ("box", "distance")] == [0, 0]


def test_keypoints_by_hand() -> None:
    """A keypoint 3 px off in a box of 30 x 20 px; a second one without a label, and a third of another object."""
    shape = 3, 3
    place = torch.tensor([[13.0, 10, 0.5, 40, 40, 0.5, 20, 20, 0.5]])
    truth = torch.tensor([[[10.0, 10, 2], [0, 0, 0], [20, 20, 1]]])
    logits = Logits([], [], [torch.zeros(1, 9, 1, 1)], place[..., None])
    one = torch.tensor([0])
    box = torch.tensor([[0.0, 0, 30, 20]])
    found = keypoint_losses(logits, shape, truth, box, Matches(one, one, one))
    missing = 1 - math.exp(-9 / (2 * 600 * (2 / 3) ** 2))
    assert found["keypoints"].item() == pytest.approx(KEYPOINT_GAIN * missing / 2, rel=1e-4)
    assert found["visibility"].item() == pytest.approx(VISIBLE_GAIN * math.log(2))
