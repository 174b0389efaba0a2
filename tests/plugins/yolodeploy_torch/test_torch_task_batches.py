"""What is labelled beside boxes follows the pixels through every variation: outlines, rotated boxes, keypoints, classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from drawn_tasks import COLOURS, DOTS, IMAGES, MIRRORED, drawn, drawn_crops
from numpy.typing import NDArray

from yolodeploy.data.dataset import Dataset
from yolodeploy.system import ImageShape
from yolodeploy.tasks.obb import to_corners
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training.batches import Batch, Batches
from yolodeploy_torch.training.shapes import Shapes, masks

SIDE, STEP = 96, 4
SHAPE = ImageShape.square(SIDE)
VARIED = (
    {"rotate": 90, "scale": 0.3},
    {"mosaic": 1, "scale": 0.3, "flip": 0.5, "translate": 0.1},
    {"flip_vertical": 1, "rotate": 20, "translate": 0.2},
)


def augment(**strengths: float) -> Augment:
    """Only the named variations."""
    return Augment.model_validate(dict.fromkeys(Augment.model_fields, 0) | strengths)


def batches(view: Dataset, **strengths: float) -> list[Batch]:
    wanted = (SIDE // STEP,) * 2 if view.task == "segment" else None
    made = Batches(view, SHAPE, augment(**strengths), seed=1, masks=wanted)
    return [batch for epoch in range(2) for batch in made.epoch(epoch, IMAGES)]


def coloured(image: torch.Tensor, cls: int) -> NDArray[np.bool_]:
    """The pixels that have the colour of a class."""
    colour = torch.tensor(COLOURS[cls])[:, None, None] / 255
    flags: NDArray[np.bool_] = ((image - colour).abs().amax(0) < 0.4).numpy()
    return flags


@pytest.mark.parametrize("strengths", [{}, *VARIED], ids=lambda x: "-".join(x) or "plain")
def test_masks(strengths: dict[str, float], tmp_path: Path) -> None:
    count = wrong = 0
    for batch in batches(drawn(tmp_path, "segment"), **strengths):
        assert batch.extra is not None
        assert batch.extra.shape == (len(batch.targets.cls), SIDE // STEP, SIDE // STEP)
        assert batch.extra.dtype == torch.uint8
        for image, pixels in enumerate(batch.images):
            for cls in range(3):
                mine = (batch.targets.image == image) & (batch.targets.cls == cls)
                claimed = batch.extra[mine].sum(0).numpy()
                assert claimed.max(initial=0) <= 1
                cells = coloured(pixels, cls).reshape(SIDE // STEP, STEP, -1, STEP).mean((1, 3))
                wrong += int(np.where(claimed, cells < 0.25, cells > 0.75).sum())
                count += int(claimed.sum())
        for box, mask in zip(batch.targets.boxes * SIDE / STEP, batch.extra, strict=True):
            rows, columns = np.nonzero(mask.numpy())
            x, y, width, height = box.tolist()
            if len(rows) > 8:
                assert abs(columns.min() - (x - width / 2)) <= 1
                assert abs(rows.max() + 1 - (y + height / 2)) <= 1
    assert count > 300
    assert wrong <= 0.03 * count  # that of which a tenth is visible is no object


@pytest.mark.parametrize("strengths", [{}, *VARIED], ids=lambda x: "-".join(x) or "plain")
def test_rotated_boxes(strengths: dict[str, float], tmp_path: Path) -> None:
    """The rectangle is filled with its colour; of the kite half is, around which the label is the smallest one."""
    shares = []
    for batch in batches(drawn(tmp_path, "obb"), **strengths):
        assert batch.extra is not None
        for image, cls, box in zip(
            batch.targets.image, batch.targets.cls, batch.extra, strict=True
        ):
            assert -math.pi / 4 <= box[4] < 3 * math.pi / 4
            assert box[2] >= box[3] >= 2
            canvas = np.zeros((SIDE, SIDE), np.uint8)
            corners = to_corners(box[None].numpy())[0]
            cv2.fillPoly(canvas, [np.rint(corners * 16 - 8).astype(np.int32)], (1,), shift=4)
            if canvas.sum() > 60:
                shares.append(coloured(batch.images[image], int(cls))[canvas == 1].mean())
    assert len(shares) > 16
    assert np.quantile(shares, 0.75) > 0.8
    assert min(shares) > 0.4


def test_keypoints_and_their_names_in_a_mirror(tmp_path: Path) -> None:
    view = drawn(tmp_path, "pose")
    count = hidden = 0
    mirrored = [DOTS[place] for place in MIRRORED]
    for strengths, expected in (
        ({}, DOTS),
        ({"flip": 1}, mirrored),
        ({"flip": 1, "flip_vertical": 1}, DOTS),
        (VARIED[0], DOTS),
        ({**VARIED[1], "flip": 1}, mirrored),
        (VARIED[2], mirrored),
    ):
        for batch in batches(view, **strengths):
            assert batch.extra is not None
            assert batch.extra.shape[1:] == (4, 3)
            seen = batch.extra[..., 2] > 0
            places = batch.extra[..., :2]
            inside = ((places >= 0) & (places <= SIDE)).all(2)
            assert torch.equal(seen, inside)
            hidden += int((~seen).sum())
            for image, points in zip(batch.targets.image, batch.extra, strict=True):
                for (x, y, visible), colour in zip(points.tolist(), expected, strict=True):
                    if visible and min(x, y) >= 1 and max(x, y) < SIDE - 1:
                        pixel = batch.images[image, :, int(y), int(x)]
                        assert (pixel - torch.tensor(colour) / 255).abs().max() < 0.45
                        count += 1
    assert count > 100
    assert hidden > 0
    (plain,) = Batches(view, SHAPE, augment(), 1).epoch(0, IMAGES)
    assert plain.extra is not None
    assert sorted(set(plain.extra[..., 2].flatten().tolist())) == [1, 2]


def test_classes_stay_whatever_is_done_to_the_crop(tmp_path: Path) -> None:
    view = drawn_crops(tmp_path).for_model(("b", "a", "c"))
    shape = ImageShape(32, 32, fit="crop")
    strengths: dict[str, Any] = {"scale": 0.9, "translate": 0.9, "rotate": 180, "flip": 0.5}
    (batch,) = Batches(view, shape, augment(**strengths), 0).epoch(0, 6)
    assert batch.extra is None
    assert batch.targets.image.tolist() == list(range(6))
    shades = (batch.images[:, 0] * 255 / 40).round()
    assert (shades == shades[:, :1, :1]).all(), "a mirrored crop has no border of another colour"
    numbers = shades[:, 0, 0].int().tolist()
    assert sorted(numbers) == list(range(6))
    assert batch.targets.cls.tolist() == [2 - number % 3 for number in numbers]


def test_the_smaller_of_two_masks_lies_on_top() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    shapes = Shapes((8 + 16 * square, 4 + 56 * square, np.zeros((0, 2))))
    found = masks(shapes, (64, 64), 4)
    assert found.shape == (3, 16, 16)
    assert found[0].sum() == 16
    assert found[0, 2:6, 2:6].all()
    assert found[1].sum() == 14 * 14 - 16
    assert not (found[0] & found[1]).any()
    assert not found[2].any()


def test_an_outline_ends_at_the_sides_of_the_image() -> None:
    """A diamond around the corner of the image, of which a triangle is left."""
    diamond = np.array([[-10.0, 0], [0, -10], [10, 0], [0, 10]])
    left = Shapes((diamond, diamond + 100)).cut(np.array([64, 64]))
    assert left.bounds().tolist() == [[0, 0, 10, 10], [0, 0, 0, 0]]
    assert cv2.contourArea(left.points[0].astype(np.float32)) == 50
