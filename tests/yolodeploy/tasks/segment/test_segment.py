"""The task segment: from raw outputs in either layout to findings, files, golden data and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import coco_objects
import cv2
import numpy as np
import pytest
from faster_coco_eval import mask_api_new_cpp as mask_api

from yolodeploy.backend import OUTPUT, PROTOTYPES
from yolodeploy.data import Letterboxed
from yolodeploy.tasks import APP, EVALUATION
from yolodeploy.tasks.detection.rows import best_rows
from yolodeploy.tasks.segment import Segment, Segments, segment_postprocess
from yolodeploy.tasks.segment.masks import Packing
from yolodeploy.tasks.segment.outlines import MAX_POINTS

TASK = Segment(("one", "two"))
BOX = Letterboxed(np.empty(0, np.uint8), (0.5, 0.5), 0, 8, 128, 96)  # in an input of 64 x 64
ONE_TO_ONE = EVALUATION.for_head("one-to-one")


def _outputs(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    raw = np.zeros((4 + 2 + 32, 30), np.float32)
    raw[:2] = random.uniform(10, 54, (2, 30))
    raw[2:4] = random.uniform(4, 30, (2, 30))
    raw[4:6] = random.permutation(60).reshape(2, 30) / 61
    raw[6:] = random.normal(size=(32, 30))
    return {OUTPUT: raw, PROTOTYPES: random.normal(size=(32, 16, 16)).astype(np.float32)}


def _same(one: Segments, two: Segments) -> bool:
    arrays = ((found.boxes, found.scores, found.classes, found.masks.areas) for found in (one, two))
    sizes = ((found.masks.height, found.masks.width, found.masks.runs) for found in (one, two))
    return all(map(np.array_equal, *arrays)) and len(set(sizes)) == 1


def test_suppression_keeps_each_object_with_its_own_coefficients() -> None:
    outputs = _outputs()
    raw = outputs[OUTPUT]
    raw[:4, 1] = raw[:4, 0] + 0.1  # the same box, and another mask
    raw[4:6, :2] = (0.99, 0.98), (0.0, 0.0)
    found = TASK.found(outputs, APP, BOX, "anchors")
    alone = {**outputs, OUTPUT: raw[:, :1]}
    first = TASK.found(alone, APP, BOX, "anchors")
    assert found.boxes[0] == pytest.approx(first.boxes[0])
    assert found.masks.runs[0] == first.masks.runs[0]
    assert (
        first.masks.runs
        != TASK.found({**outputs, OUTPUT: raw[:, 1:2]}, APP, BOX, "anchors").masks.runs
    )
    assert (found.masks.height, found.masks.width) == (96, 128)
    assert TASK.count(found) < 30


def test_both_layouts_of_a_one_to_one_head_find_the_same() -> None:
    outputs = _outputs()
    rows = {**outputs, OUTPUT: best_rows(outputs[OUTPUT], extras=32)}
    assert rows[OUTPUT].shape == (30, 38)
    one, two = (
        TASK.found(each, ONE_TO_ONE, BOX, layout)  # type: ignore[arg-type]
        for each, layout in ((outputs, "anchors"), (rows, "rows"))
    )
    assert _same(one, two)
    assert len(one) == 30
    differences = TASK.differences(outputs, rows, "rows")
    assert {key: value.max() for key, value in differences.items()} == pytest.approx(
        {"boxes_px": 0, "scores": 0, "coefficients": 0, "prototypes": 0}, abs=1e-5
    )


def test_differences_and_noise_say_which_part_is_off() -> None:
    exact = _outputs()
    for part, group in (
        (slice(6, None), "coefficients"),
        (slice(4, 6), "scores"),
        (slice(4), "boxes_px"),
    ):
        close = {name: array.copy() for name, array in exact.items()}
        close[OUTPUT][part] += 0.01
        found = TASK.differences(exact, close, "anchors")
        assert {key: round(float(value.max()), 3) for key, value in found.items()} == {
            key: 0.01 if key == group else 0 for key in found
        }
        assert TASK.noise([exact], [close], "anchors") > 0
    assert TASK.noise([exact], [exact], "anchors") == 0
    maps = {**exact, PROTOTYPES: exact[PROTOTYPES] * np.float32(1.1)}
    assert TASK.differences(exact, maps, "anchors")["prototypes"].max() > 0.1
    assert TASK.noise([exact], [maps], "anchors") == pytest.approx(0.01, rel=1e-3)
    scaled = {**exact, OUTPUT: exact[OUTPUT].copy()}
    scaled[OUTPUT][6:] *= np.float32(1.1)
    assert TASK.noise([exact, exact], [exact, scaled], "anchors") == pytest.approx(0.005, rel=1e-3)
    rows = [{**each, OUTPUT: best_rows(each[OUTPUT], extras=32)} for each in (exact, scaled)]
    assert TASK.noise(rows[:1], rows[1:], "rows") == pytest.approx(0.01, rel=1e-3)


def test_rows_in_the_wrong_order_are_a_fault() -> None:
    rows = best_rows(_outputs()[OUTPUT], extras=32)
    outputs = {OUTPUT: rows, PROTOTYPES: _outputs()[PROTOTYPES]}
    assert TASK.fault(outputs, "rows") is None
    assert TASK.fault(_outputs(), "anchors") is None
    assert TASK.fault({**outputs, OUTPUT: rows[::-1]}, "rows") == "is not sorted by score"


def test_findings_are_read_as_they_were_saved(tmp_path: Path) -> None:
    nothing = replace(EVALUATION, confidence=1.0)
    found = [
        TASK.found(_outputs(seed), rules, BOX, "anchors")
        for seed, rules in ((0, EVALUATION), (1, nothing), (2, APP), (3, nothing))
    ]
    assert list(map(len, found))[1::2] == [0, 0]
    for images in (found, found[1:2], found[1:]):
        TASK.save(tmp_path / "found.npz", images)
        again = TASK.load(tmp_path / "found.npz")
        assert len(again) == len(images)
        assert all(map(_same, again, images))


def test_golden_data_has_masks_as_coco_writes_them() -> None:
    found = TASK.found(_outputs(), APP, BOX, "anchors")
    rows = TASK.golden(found)["detections"]
    assert len(rows) == len(found) > 5
    for place, row in enumerate(rows):
        mask = row["mask"]
        pixels = mask_api.decode([{"size": mask["size"], "counts": mask["counts"]}])[:, :, 0]
        assert mask["size"] == [96, 128]
        assert (pixels == coco_objects.pixels(found.masks, place)).all()
        assert mask["area"] == pixels.sum()
        assert row["class"] == found.classes[place]
        assert row["box"] == pytest.approx(found.boxes[place].tolist(), abs=1e-3)


@pytest.mark.parametrize(
    ("layout", "columns"), [("anchors", "4 + classes + 32"), ("rows", "k, 38")]
)
def test_the_contract_says_how_a_mask_is_assembled(layout: str, columns: str) -> None:
    contract = segment_postprocess(APP, layout)  # type: ignore[arg-type]
    assert contract["nms"] == ("app" if layout == "anchors" else "none")
    assert columns in contract["outputs"]["output"]
    assert contract["outputs"]["prototypes"].startswith("[32, h, w]")
    mask = contract["mask"]
    assert (mask["coefficients"], mask["stride"], mask["threshold"]) == (32, 4, 0.0)
    assert "((x + 0.5) * s + letterbox left) / 4 - 0.5" in " ".join(mask["steps"])
    assert "32 numbers" in TASK.output_text(APP, layout)  # type: ignore[arg-type]


def test_outlines_of_masks_are_bounded_and_close_to_them() -> None:
    """A disc with a dent, a small part far away, one pixel, and a comb with more teeth than an outline has points."""
    size, packing = (300, 400), Packing(300, 400)
    across, down = np.meshgrid(np.arange(400), np.arange(300))
    disc = (across - 150) ** 2 + (down - 150) ** 2 < 100**2
    disc &= (across - 250) ** 2 + (down - 150) ** 2 > 40**2
    comb = (down < 20) | ((down < 200) & (across % 6 < 3))
    for flags in (disc | ((across > 380) & (down < 30)), (across == 7) & (down == 9), comb):
        packing.add(flags.T, 0, 0)
    masks = packing.masks()
    boxes = np.array([[50, 50, 250, 250], [7, 9, 8, 10], [0, 0, 400, 200]], np.float32)
    found = Segments(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 0]), masks)
    first, pixel, teeth = TASK.shapes(found)
    assert len(first.outlines) == 2
    drawn = np.zeros(size, np.uint8)
    for outline in first.outlines:
        cv2.fillPoly(drawn, [np.array(outline).astype(np.int32)], (1,))
    both, either = (
        (drawn > 0) & coco_objects.pixels(masks, 0),
        (drawn > 0) | coco_objects.pixels(masks, 0),
    )
    assert both.sum() / either.sum() > 0.97
    assert pixel.outlines == (((7.5, 9.5),),)
    assert sum(map(len, teeth.outlines)) <= MAX_POINTS
    empty = Packing(*size)
    empty.add(np.zeros((1, 1), np.bool_), 0, 0)
    lost = Segments(boxes[:1], np.ones(1, np.float32), np.array([1]), empty.masks())
    assert TASK.shapes(lost)[0].outlines == (((50, 50), (250, 50), (250, 250), (50, 250)),)
    marks = TASK.marks(found, replace(found, classes=np.array([1, 1, 0])))
    assert marks.source == marks.artifact == ("changed", None, None)
