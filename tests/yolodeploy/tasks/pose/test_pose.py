"""The task pose: from raw outputs in either layout to findings, files, golden data and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolodeploy.backend import OUTPUT
from yolodeploy.data import Letterboxed
from yolodeploy.tasks import APP, EVALUATION
from yolodeploy.tasks.detection.rows import best_rows
from yolodeploy.tasks.pose import Pose, Poses, pose_postprocess

SHAPES = ((4, 3), (5, 2), (17, 3))
BOX = Letterboxed(np.empty(0, np.uint8), (0.5, 0.25), 3, 8, 128, 192)
ONE_TO_ONE = EVALUATION.for_head("one-to-one")


def _task(shape: tuple[int, int]) -> Pose:
    return Pose(("one", "two"), shape)


def _outputs(shape: tuple[int, int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    raw = np.zeros((4 + 2 + shape[0] * shape[1], 30), np.float32)
    raw[:2] = random.uniform(10, 54, (2, 30))
    raw[2:4] = random.uniform(4, 30, (2, 30))
    raw[4:6] = random.permutation(60).reshape(2, 30) / 61
    points = random.uniform(5, 60, (30, *shape))
    points[..., 2:] = random.uniform(0, 1, (30, shape[0], shape[1] - 2))
    raw[6:] = points.reshape(30, -1).T
    return {OUTPUT: raw}


def _same(one: Poses, two: Poses) -> bool:
    arrays = ((some.boxes, some.scores, some.classes, some.keypoints) for some in (one, two))
    return all(map(np.array_equal, *arrays))


@pytest.mark.parametrize("shape", SHAPES)
def test_keypoints_lie_in_the_original_image(shape: tuple[int, int]) -> None:
    outputs, task = _outputs(shape), _task(shape)
    raw = outputs[OUTPUT]
    raw[6 : 6 + 2 * shape[1] : shape[1], 0] = -50, 500  # x of two keypoints is far outside
    raw[4:6, 0] = 0.999, 0
    found = task.found(outputs, APP, BOX, "anchors")
    assert found.keypoints.shape == (len(found), shape[0], 3)
    for number in range(shape[0]):
        x, y, *seen = raw[6 + number * shape[1] : 6 + (number + 1) * shape[1], 0].tolist()
        wanted = np.clip([(x - 3) / 0.5, (y - 8) / 0.25], 0, (128, 192))
        assert found.keypoints[0, number] == pytest.approx([*wanted, *(seen or [1])], rel=1e-6)
    assert found.keypoints[0, :2, 0].tolist() == [0, 128]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_layouts_of_a_one_to_one_head_find_the_same(shape: tuple[int, int]) -> None:
    outputs, task = _outputs(shape), _task(shape)
    rows = {OUTPUT: best_rows(outputs[OUTPUT], extras=task.extras)}
    assert rows[OUTPUT].shape == (30, 6 + task.extras)
    one, two = (
        task.found(outputs, ONE_TO_ONE, BOX, "anchors"),
        task.found(rows, ONE_TO_ONE, BOX, "rows"),
    )
    assert _same(one, two)
    assert len(one) == 30
    found = task.differences(outputs, rows, "rows")
    groups = ["boxes_px", "scores", "keypoints_px", *(["visibilities"] if shape[1] == 3 else [])]
    assert list(found) == groups
    assert max(float(value.max()) for value in found.values()) < 1e-5
    assert task.fault(rows, "rows") is None
    assert task.fault({OUTPUT: rows[OUTPUT][::-1]}, "rows") == "is not sorted by score"


@pytest.mark.parametrize("layout", ["anchors", "rows"])
def test_differences_and_noise_say_which_part_is_off(layout: str) -> None:
    task, exact = _task((4, 3)), _outputs((4, 3))
    for first, group, change in ((6, "keypoints_px", 2.0), (8, "visibilities", 0.1)):
        close = {OUTPUT: exact[OUTPUT].copy()}
        close[OUTPUT][first::3] += np.float32(change)
        pair = [exact, close]
        if layout == "rows":
            pair = [{OUTPUT: best_rows(each[OUTPUT], extras=12)} for each in pair]
        found = task.differences(exact, pair[1], layout)  # type: ignore[arg-type]
        assert {key: round(float(value.max()), 4) for key, value in found.items()} == {
            key: change if key == group else 0 for key in found
        }
        assert task.noise(pair[:1], pair[1:], layout) > 0  # type: ignore[arg-type]
        assert task.noise(pair[:1], pair[:1], layout) == 0  # type: ignore[arg-type]
    raw = exact[OUTPUT]
    moved = {OUTPUT: raw.copy()}
    moved[OUTPUT][6::3] += 2  # x of all: the mean over x and y is 2
    scores = raw[4:6].max(0)
    wanted = (scores * 2 / (raw[2] * raw[3])).sum() / scores.sum()
    assert task.noise([exact], [moved], "anchors") == pytest.approx(wanted, rel=1e-4)


def test_findings_are_read_as_they_were_saved(tmp_path: Path) -> None:
    task, nothing = _task((4, 3)), replace(EVALUATION, confidence=1.0)
    found = [
        task.found(_outputs((4, 3), seed), rules, BOX, "anchors")
        for seed, rules in ((0, EVALUATION), (1, nothing), (2, APP))
    ]
    for images in (found, found[1:2]):
        task.save(tmp_path / "found.npz", images)
        again = task.load(tmp_path / "found.npz")
        assert len(again) == len(images)
        assert all(map(_same, again, images))


def test_golden_data_and_contract_name_every_keypoint() -> None:
    task = _task((4, 3))
    found = task.found(_outputs((4, 3)), APP, BOX, "anchors")
    rows = task.golden(found)["detections"]
    assert len(rows) == len(found) > 5
    assert np.array([row["keypoints"] for row in rows]) == pytest.approx(found.keypoints, abs=1e-3)
    contract = pose_postprocess(APP, "anchors", (4, 3))
    assert contract["nms"] == "app"
    assert "4 + classes + 12" in contract["outputs"]["output"]
    assert (contract["keypoints"]["count"], contract["keypoints"]["numbers"]) == (
        4,
        ["x", "y", "visibility"],
    )
    assert "k * 3 + d" in contract["keypoints"]["order"]
    flat = pose_postprocess(ONE_TO_ONE, "rows", (5, 2))
    assert "[k, 6 + 10]" in flat["outputs"]["output"]
    assert "no visibility" in flat["keypoints"]["visibility"]
    assert "12 numbers" in task.output_text(APP, "anchors")


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_the_keypoints_that_are_visible_and_the_limbs_of_coco(
    shape: tuple[int, int],
) -> None:
    task = _task(shape)
    found = task.found(_outputs(shape), APP, BOX, "anchors")
    for each, box, keypoints in zip(task.shapes(found), found.boxes, found.keypoints, strict=True):
        assert each.outlines[0][0] == pytest.approx(box[:2], abs=0.051)
        assert each.outlines[0][2] == pytest.approx(box[2:], abs=0.051)
        seen = keypoints[keypoints[:, 2] > 0.5]
        assert np.array(each.points).reshape(-1, 2) == pytest.approx(seen[:, :2], abs=0.051)
        ends = {end for x, y, far, low in each.lines for end in ((x, y), (far, low))}
        assert ends <= set(each.points)
        assert bool(each.lines) <= (shape[0] == 17)
    assert any(each.lines for each in task.shapes(found)) == (shape[0] == 17)
    hidden = replace(found, keypoints=found.keypoints * np.array([1, 1, 0], np.float32))
    assert not any(each.points or each.lines for each in task.shapes(hidden))
    labels = task.truth_shapes(task.as_truth(found, None))  # type: ignore[arg-type]
    expected = [(each.name, each.points) for each in task.shapes(found)]
    assert [(each.name, each.points) for each in labels] == expected
    assert set(task.marks(found, found).source) == {None}
    assert set(task.marks(found, found.take(np.arange(0))).source) == {"lost"}
