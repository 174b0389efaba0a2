"""Masks from prototypes and from polygons, against slow references written here, COCO's packing, and Ultralytics."""

from __future__ import annotations

from typing import Any

import coco_objects
import cv2
import numpy as np
import pytest
from faster_coco_eval import mask_api_new_cpp as mask_api
from hypothesis import given, settings
from hypothesis import strategies as st

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.data import Letterboxed, Polygon
from yolodeploy.data.images import letterbox
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Rules
from yolodeploy.tasks.segment import Segment
from yolodeploy.tasks.segment.assembly import assemble
from yolodeploy.tasks.segment.labels import paint
from yolodeploy.tasks.segment.masks import Packing


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1 << 18, 300]))
def test_masks_are_packed_as_coco_packs_them(seed: int, at_once: int) -> None:
    random = np.random.default_rng(seed)
    height, width = map(int, random.integers(1, 40, 2))
    packing, wanted = Packing(height, width), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yolodeploy.tasks.segment.masks._AT_ONCE", at_once)
        for _ in range(int(random.integers(0, 8))):
            left, top = int(random.integers(0, width)), int(random.integers(0, height))
            top *= int(random.integers(0, 2))
            across, down = int(random.integers(0, width - left + 1)), height - top
            down = int(random.choice([down, random.integers(0, down + 1)]))
            columns = random.random((across, down)) < random.choice([0, 0.1, 0.5, 0.9, 1])
            packing.add(columns, left, top)
            whole = np.zeros((height, width), np.uint8)
            whole[top : top + down, left : left + across] = columns.T
            wanted.append(whole)
        masks = packing.masks()
    assert masks.areas.tolist() == [each.sum() for each in wanted]
    for place, each in enumerate(wanted):
        packed = mask_api.encode(np.asfortranarray(each[:, :, None]))[0]["counts"]
        assert masks.runs[place] == packed
        assert (coco_objects.pixels(masks, place) == each).all()
        if each.any():
            part, left, top = masks.part(place)
            rows, columns = np.flatnonzero(each.any(1)), np.flatnonzero(each.any(0))
            assert (left, top) == (columns[0], rows[0])
            assert (part == each[top : rows[-1] + 1, left : columns[-1] + 1]).all()
    iou = masks.iou(masks)
    for one, two in np.ndindex(iou.shape):
        both, either = (wanted[one] & wanted[two]).sum(), (wanted[one] | wanted[two]).sum()
        assert iou[one, two] == pytest.approx(both / either if either else 0)


def _pixel(prototypes: np.ndarray, coefficients: np.ndarray, u: float, v: float) -> float:
    """The value of a pixel, as the contract says it."""
    m = np.tensordot(coefficients, prototypes, 1)
    u, v = np.clip(u, 0, m.shape[1] - 1), np.clip(v, 0, m.shape[0] - 1)
    i, j = min(int(u), m.shape[1] - 2), min(int(v), m.shape[0] - 2)
    a, b = u - i, v - j
    above = (1 - a) * m[j, i] + a * m[j, i + 1]
    return float((1 - b) * above + b * ((1 - a) * m[j + 1, i] + a * m[j + 1, i + 1]))


@pytest.mark.parametrize(
    "box",
    [
        Letterboxed(np.empty(0, np.uint8), (1.6, 1.6), 0, 6, 40, 32),
        Letterboxed(np.empty(0, np.uint8), (2.0, 1.25), 0, 0, 32, 51),  # stretched
        Letterboxed(np.empty(0, np.uint8), (0.5, 0.5), 12, 0, 80, 128),
    ],
)
def test_each_pixel_is_sampled_between_prototypes_inside_the_box(box: Letterboxed) -> None:
    random = np.random.default_rng(1)
    prototypes = random.normal(size=(32, 16, 16)).astype(np.float32)
    coefficients = random.normal(size=(5, 32)).astype(np.float32)
    right, bottom = box.width, box.height
    boxes = [
        *((0, 0, right, bottom), (3.2, 4.0, 20.7, 21.0), (5, 5, 5, 9), (30.2, 31.5, 30.9, 31.9)),
        (right - 6.5, bottom - 1.5, right, bottom),
    ]
    masks = assemble(coefficients, prototypes, np.array(boxes, np.float32), box)
    for place, (x0, y0, x1, y1) in enumerate(np.array(boxes, np.float32)):
        wanted, sure = np.zeros((2, box.height, box.width), np.bool_)
        for y, x in np.ndindex(wanted.shape):
            u = ((x + 0.5) * box.scale[0] + box.left) / 4 - 0.5
            v = ((y + 0.5) * box.scale[1] + box.top) / 4 - 0.5
            value = _pixel(prototypes, coefficients[place], u, v)
            wanted[y, x] = value > 0 and x0 <= x < x1 and y0 <= y < y1
            sure[y, x] = abs(value) > 0.05  # older OpenCV rounds places to 1/32
        assert (coco_objects.pixels(masks, place) == wanted)[sure].all()
        assert masks.areas[place] == coco_objects.pixels(masks, place).sum()
    assert masks.areas[2] == masks.areas[3] == 0  # no pixel's corner lies in these boxes
    assert masks.areas[0] > masks.areas[1] > 0


def _polygon(*points: tuple[float, float], side: float = 20.0) -> Polygon:
    return Polygon(0, tuple((x / side, y / side) for x, y in points))


def test_polygons_are_painted_with_the_smaller_on_top() -> None:
    large = _polygon((2.5, 2.5), (12.5, 2.5), (12.5, 12.5), (2.5, 12.5))
    small = _polygon((10.5, 10.5), (15.5, 10.5), (15.5, 15.5), (10.5, 15.5))
    for order in ((large, small), (small, large)):
        truth = paint(order, 20, 20)
        masks = {
            polygon: coco_objects.pixels(truth.masks, place) for place, polygon in enumerate(order)
        }
        wanted = np.zeros((2, 20, 20), np.bool_)
        wanted[0, 2:13, 2:13] = wanted[1, 10:16, 10:16] = True  # with the pixels of the outline
        wanted[0] &= ~wanted[1]
        assert (masks[large] == wanted[0]).all()
        assert (masks[small] == wanted[1]).all()


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        (((-5, 3.5), (4.5, 3.5), (4.5, 6.5), (-5, 6.5)), 5 * 4),  # reaches out on the left
        (((15.5, 15.5), (30, 15.5), (30, 30), (15.5, 30)), 5 * 5),  # over the corner
        (((20, 2), (25, 2), (25, 9)), 0),  # right of the image
        (((0.0, 20), (20, 20), (20, 20)), 0),  # on its lower edge, which is no pixel
        (((3.5, 3.5), (3.5, 3.5), (3.5, 3.5)), 1),  # a point
        (((3.5, 3.5), (9.5, 3.5), (3.5, 3.5)), 7),  # a line
        (((0, 0), (20, 0), (20, 20), (0, 20)), 400),
    ],
)
def test_odd_polygons_have_a_defined_mask(
    points: tuple[tuple[float, float], ...], pixels: int
) -> None:
    truth = paint([_polygon(*points)], 20, 20)
    assert truth.masks.areas.tolist() == [pixels]
    assert (truth.masks.height, truth.masks.width, len(truth.boxes)) == (20, 20, 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(60, 90), (90, 141)])
def test_masks_are_those_that_ultralytics_predicts(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own raw outputs, assembled here and there: 99.9 % of all pixels inside boxes are the same."""
    ultralytics = pytest.importorskip("ultralytics")
    torch = pytest.importorskip("torch")
    from ultralytics.models.yolo.segment import SegmentationPredictor

    raw: list[Any] = []
    postprocess = SegmentationPredictor.postprocess

    def seen(self: Any, predictions: Any, *rest: Any, **options: Any) -> Any:
        raw.append(predictions)
        return postprocess(self, predictions, *rest, **options)

    monkeypatch.setattr(SegmentationPredictor, "postprocess", seen)
    torch.manual_seed(0)
    model = ultralytics.YOLO("yolo11n-seg.yaml", verbose=False)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    image = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    shape = ImageShape(96, 96)
    options = {"imgsz": 96, "rect": False, "retina_masks": True, "conf": 0.0, "max_det": 40}
    theirs = model.predict(image[..., ::-1], verbose=False, **options)[0]
    task = Segment(tuple(str(number) for number in range(80)))
    output, prototypes = _arrays(raw[-1])
    outputs = {OUTPUT: output, PROTOTYPES: prototypes}
    found = task.found(
        outputs, Rules(0.0, 0.7, 40, multi_label=False), letterbox(image, shape), "anchors"
    )
    shown = np.flatnonzero(found.masks.areas)  # it drops the others
    assert len(shown) == len(theirs) > 20
    assert found.boxes[shown] == pytest.approx(
        theirs.boxes.xyxy.numpy(), abs=0.5
    )  # it scales by whole pixels
    wrong = total = 0
    for mask, place in zip(theirs.masks.data.numpy() > 0, shown.tolist(), strict=True):
        ours = coco_objects.pixels(found.masks, place)
        left, top, right, bottom = np.ceil(found.boxes[place]).astype(int)
        wrong += int((ours != mask).sum())
        total += int((right - left) * (bottom - top))
    assert wrong <= 0.001 * total


def _arrays(predictions: Any) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and prototypes in what its networks return: tensors in tuples."""
    found: list[np.ndarray] = []

    def look(value: Any) -> None:
        if hasattr(value, "numpy"):
            found.append(value.detach().numpy())
        elif isinstance(value, (tuple, list)):
            for each in value:
                look(each)

    look(predictions)
    output = next(each for each in found if each.ndim == 3 and each.shape[1] == 116)
    return output[0], next(each for each in found if each.ndim == 4 and each.shape[1] == 32)[0]
