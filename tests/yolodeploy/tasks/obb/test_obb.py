"""Rotated boxes: decoding, suppression, mapping, scores and what apps are told, against figures worked out here."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolodeploy.data import Corners, Letterboxed, load_view
from yolodeploy.data.images import letterbox
from yolodeploy.errors import DataError
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Key, Obb, Rules, one
from yolodeploy.tasks.obb import Rotated, Truth, prob_iou, to_corners
from yolodeploy.tasks.obb.contract import obb_postprocess
from yolodeploy.tasks.obb.labels import smallest_rectangle, truth_of
from yolodeploy.tasks.obb.postprocess import decode, suppress

TASK = Obb(("car", "ship"))
BOX = Letterboxed(np.zeros((64, 64, 3), np.uint8), (0.5, 0.5), 4, 10, 100, 80)


def _raw(*anchors: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Outputs from anchors of cx, cy, w, h, two scores, angle."""
    return {"output": np.array(anchors, np.float32).reshape(-1, 7).T.copy()}


def _rotated(*rows: tuple[float, ...]) -> Rotated:
    """From rows of cx, cy, w, h, angle, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 7)
    return Rotated(table[:, :5], table[:, 5], table[:, 6].astype(np.int64))


def test_anchors_become_boxes_of_the_original() -> None:
    """Several classes of an anchor in the evaluation, the best one in an app; mapped, and not clipped."""
    outputs = _raw((14, 30, 20, 8, 0.3, 0.9, 0.5), (60, 60, 40, 6, 0.02, 0.005, -0.7))
    found = TASK.found(outputs, TASK.evaluation, BOX, "anchors")
    assert found.scores.tolist() == pytest.approx([0.9, 0.3, 0.02])
    assert found.classes.tolist() == [1, 0, 0]
    assert found.boxes[0].tolist() == pytest.approx([20, 40, 40, 16, 0.5])
    assert found.boxes[2].tolist() == pytest.approx([112, 100, 80, 12, -0.7])  # beyond 100 x 80
    app = TASK.found(outputs, TASK.app, BOX, "anchors")
    assert (app.classes.tolist(), TASK.count(app)) == ([1], 1)


def test_one_to_one_anchors_and_rows_are_not_suppressed() -> None:
    same = (30.0, 30.0, 20.0, 10.0)
    outputs = _raw((*same, 0.8, 0.1, 0.2), (*same, 0.7, 0.6, 0.2))
    rules = TASK.app.for_head("one-to-one")
    found = TASK.found(outputs, rules, BOX, "anchors")
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])  # of 2 anchors the 2 best pairs
    rows = np.array([[*same, 0.8, 1, 0.3], [*same, 0.7, 1, 0.3], [*same, 0.2, 0, 0.3]], np.float32)
    found = TASK.found({"output": rows}, rules, BOX, "rows")
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])
    assert found.boxes[0].tolist() == pytest.approx([52, 40, 40, 20, 0.3])
    assert TASK.fault({"output": rows}, "rows") is None
    assert TASK.fault({"output": rows[::-1]}, "rows") == "is not sorted by score"
    rows[0, 5] = 2
    assert TASK.fault({"output": rows}, "rows") == "names a class that is none of 0 to 1"
    assert TASK.fault(outputs, "anchors") is None


def test_suppression_is_not_greedy() -> None:
    """A chain of three: the second goes for the first, and the third for the second, though that is gone."""
    chain = _rotated(*((x, 50, 40, 20, 0.4, 0.9 - x / 100, 0) for x in (0, 6, 12)))
    alike = prob_iou(chain.boxes[:, None], chain.boxes[None])
    assert alike[0, 1] > 0.75 > alike[0, 2]
    assert alike[1, 2] > 0.75
    kept = suppress(chain, Rules(0.0, 0.75, 300, multi_label=True))
    assert kept.scores.tolist() == pytest.approx([0.9])
    apart = Rotated(chain.boxes, chain.scores, np.array([0, 1, 0]))
    assert len(suppress(apart, Rules(0.0, 0.75, 300, multi_label=True))) == 3


def test_suppression_by_blocks_is_that_of_the_whole_matrix() -> None:
    """Spread and crowded boxes, tiny ones, thresholds up to 1: what is left out for its distance changes nothing."""
    random = np.random.default_rng(0)
    for iou in (0.0, 0.45, 0.7, 0.99, 1.0):
        for span, sides in ((400, (4, 50)), (30, (4, 50)), (5, (0.01, 2)), (800, (-9, 90))):
            count = 300
            table = np.stack(
                [*random.uniform(0, span, (2, count)), *random.uniform(*sides, (2, count)), random.uniform(-9, 9, count)], 1
            ).astype(np.float32)  # fmt: skip
            found = Rotated(table, np.linspace(1, 0.1, count).astype(np.float32), np.arange(count) % 2)  # fmt: skip
            rival = np.tril(prob_iou(table[:, None], table[None]) >= iou, -1)
            rival &= found.classes[:, None] == found.classes
            wanted = np.flatnonzero(~rival.any(1))[:150]
            kept = suppress(found, Rules(0.0, iou, 150, multi_label=True))
            assert np.array_equal(kept.boxes, table[wanted])


def test_thirty_thousand_candidates_make_no_great_matrix() -> None:
    random = np.random.default_rng(1)
    table = random.uniform(2, 600, (5, 40_000))
    table[4] = random.uniform(0.02, 1, 40_000)
    raw = np.concatenate([table, np.zeros((1, 40_000)), table[:1] % 3]).astype(np.float32)
    candidates = decode(raw, TASK.evaluation)
    assert len(candidates) == 30_000
    tracemalloc.start()
    kept = suppress(candidates, TASK.evaluation)
    assert tracemalloc.get_traced_memory()[1] < 48 << 20  # the matrix would take 7.2 GB
    tracemalloc.stop()
    assert 0 < len(kept) <= 300


@pytest.mark.parametrize(
    ("box", "angle"),
    [
        ((50, 40, 30, 10, 0.5), 0.5),
        ((50, 40, 10, 30, 0.5), 0.5 + math.pi / 2),  # the long side is w
        ((50, 40, 30, 10, -0.7), -0.7),
        ((50, 40, 30, 10, -0.9), math.pi - 0.9),  # below -pi/4 it is the other end
        ((50, 40, 30, 10, math.pi / 2), math.pi / 2),
    ],
)
def test_label_rectangles(box: tuple[float, ...], angle: float) -> None:
    points = to_corners(np.array([box]))[0] / (200, 100)
    found = smallest_rectangle(Corners(1, tuple(map(tuple, points.tolist()))), 200, 100)
    assert found == pytest.approx((50, 40, 30, 10, angle), abs=1e-4)
    assert prob_iou(np.array(found), np.array(box)) > 0.999


def test_corners_that_are_no_rectangle() -> None:
    """All on a line or in a point: a box without an area, which nothing is similar to, but no failure."""
    line = Corners(0, ((0.1, 0.1), (0.2, 0.2), (0.3, 0.3), (0.4, 0.4)))
    x, y, width, height, angle = smallest_rectangle(line, 100, 100)
    assert (x, y, width, height) == pytest.approx((25, 25, math.hypot(30, 30), 0), abs=1e-3)
    assert angle == pytest.approx(math.pi / 4)
    point = truth_of([Corners(0, ((0.5, 0.5),) * 4)], 100, 100)
    assert point.boxes[0, :4].tolist() == [50, 50, 0, 0]
    similar = prob_iou(point.boxes, np.array([[50, 50, 20, 10, 0.1]]))
    assert similar[0] < 0.5


def test_a_labelled_image_from_file_to_score(tmp_path: Path) -> None:
    """Labels read from files, in an image that is not square; a source that is right, an artifact that misses one."""
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "labels/val").mkdir(parents=True)
    for name in ("full", "empty"):
        cv2.imwrite(str(tmp_path / f"images/val/{name}.png"), np.zeros((100, 200, 3), np.uint8))
    boxes = np.array([[60, 50, 40, 20, 0.3], [140, 50, 30, 30, 1.0], [100, 20, 36, 12, 2.0]])
    rows = [
        " ".join([str(cls), *(f"{number:.9f}" for number in (points / (200, 100)).reshape(-1))])
        for cls, points in zip((0, 1, 1), to_corners(boxes), strict=True)
    ]
    (tmp_path / "labels/val/full.txt").write_text("\n".join(rows))
    (tmp_path / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [car, ship]\n")
    view = load_view(tmp_path / "data.yaml", View(), 0, task="obb")
    truths = [TASK.truth(view, image, 200, 100) for image in view.images]
    assert [TASK.objects(truth) for truth in truths] == [0, 3]
    assert truths[1].boxes[[0, 2]] == pytest.approx(boxes[[0, 2]], abs=1e-3)
    right = _rotated(*((*box, 0.9, cls) for box, cls in zip(boxes, (0, 1, 1), strict=True)))
    source, artifact = [_rotated(), right], [_rotated(), right.take(np.array([0, 1]))]
    measures = list(TASK.against_labels(truths, source, artifact, 0.9))
    overall, half = one(measures, Key.MAP50_95), one(measures, Key.CLASS_AP, "ship")
    assert measures[0] == overall
    assert (overall.source, overall.artifact) == pytest.approx((1, 0.75))
    assert (half.source, half.artifact, half.count) == (1, pytest.approx(0.5), 2)
    small, medium = (one(measures, Key.SIZE_AP, size) for size in ("small", "medium"))
    assert (small.source, medium.source) == (1, None)  # up to 1024 square pixels
    labels = [TASK.as_truth(found, truth) for found, truth in zip(source, truths, strict=True)]
    assert TASK.score(labels, source) == 1
    assert TASK.score(labels, artifact) == pytest.approx(0.75)  # the fidelity
    assert math.isnan(TASK.score([truths[0]], [_rotated()]))
    (tmp_path / "labels/val/full.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"full\.txt:1: an obb row must be .*, but here are 5 numbers, as of a box"):  # fmt: skip
        load_view(tmp_path / "data.yaml", View(), 0, task="obb")


def test_only_confident_boxes_are_labels() -> None:
    found = _rotated((10, 10, 8, -4, 0.1, 0.9, 1), (30, 30, 8, 4, 0.1, 0.25, 0))
    truth = TASK.as_truth(found, Truth(np.zeros((0, 5)), np.zeros(0, np.int64)))
    assert (truth.classes.tolist(), truth.boxes[:, 2:4].tolist()) == ([1], [[8, 4]])
    assert TASK.agreement([found], [found]) == ()


def test_differences_know_that_half_a_turn_is_none() -> None:
    one_, two = (
        _raw((10, 10, 8, 4, 0.5, 0.25, angle), (30, 30, 8, 4, 0.1, 0.9, 1.0)) for angle in (-0.7, math.pi - 0.75)
    )  # fmt: skip
    two["output"][0, 1] += 2
    two["output"][5, 1] -= 0.125
    found = TASK.differences(one_, two, "anchors")
    assert {kind: values.max() for kind, values in found.items()} == pytest.approx(
        {"boxes_px": 2, "scores": 0.125, "angles_rad": 0.05}, abs=1e-6
    )
    rows = np.array([[31, 30, 8, 4, 0.8, 1, 1 + math.pi], [10, 10, 8, 4, 0.5, 0, -0.7]], np.float32)
    found = TASK.differences(one_, {"output": rows}, "rows")
    assert {kind: float(values.max()) for kind, values in found.items()} == pytest.approx(
        {"boxes_px": 1, "scores": 0.1, "angles_rad": 0}, abs=1e-6
    )


def test_noise_of_scores_and_corners() -> None:
    exact, close = (_raw((50, 50, 20, 10, 0.8, 0.2, 0.0)) for _ in range(2))
    assert TASK.noise([exact], [close], "anchors") == 0
    close["output"][6, 0] = math.pi  # the same box
    assert TASK.noise([exact], [close], "anchors") == pytest.approx(0, abs=1e-9)
    close["output"][0, 0] += 2  # corners shift by 2 in x: 2^2 / 2 coordinates / 200 square pixels
    assert TASK.noise([exact], [close], "anchors") == pytest.approx(0.01, rel=1e-5)
    close["output"][4, 0] = 0.7
    scores = 0.01 / (0.64 + 0.04)
    assert TASK.noise([exact], [close], "anchors") == pytest.approx(0.01 + scores, rel=1e-5)
    rows = [np.array([[x, 50, 20, 10, 0.8, 0, angle]], np.float32) for x, angle in ((50, 0), (52, math.pi))]  # fmt: skip
    noise = TASK.noise([{"output": rows[0]}], [{"output": rows[1]}], "rows")
    assert noise == pytest.approx(0.01, rel=1e-5)


def test_saved_and_loaded(tmp_path: Path) -> None:
    found = [_rotated((1, 2, 3, 4, 0.5, 0.9, 1)), _rotated(), _rotated((5, 6, 7, 8, 0.1, 0.3, 0))]
    TASK.save(tmp_path / "found.npz", found)
    loaded = TASK.load(tmp_path / "found.npz")
    assert [len(each) for each in loaded] == [1, 0, 1]
    assert loaded[2].boxes.tolist() == found[2].boxes.tolist()
    assert (loaded[0].classes.tolist(), loaded[0].scores.tolist()) == ([1], found[0].scores.tolist())  # fmt: skip
    TASK.save(tmp_path / "none.npz", [])
    assert TASK.load(tmp_path / "none.npz") == []


def _prob_iou_of_the_contract(one_: list[float], two: list[float]) -> float:
    """Written from the text of the contract, number by number."""
    eps, sums = 1e-7, []
    for _, _, w, h, angle in (one_, two):
        p, q, c, s = w**2 / 12, h**2 / 12, math.cos(angle), math.sin(angle)
        sums.append((p * c**2 + q * s**2, p * s**2 + q * c**2, (p - q) * c * s))
    (a1, b1, k1), (a2, b2, k2) = sums
    a, b, k = a1 + a2, b1 + b2, k1 + k2
    d = a * b - k**2
    dx, dy = one_[0] - two[0], one_[1] - two[1]
    t1 = 0.25 * (a * dy**2 + b * dx**2) / (d + eps)
    t2 = -0.5 * k * dx * dy / (d + eps)
    roots = math.sqrt(max(a1 * b1 - k1**2, 0) * max(a2 * b2 - k2**2, 0))
    t3 = 0.5 * math.log(d / (4 * roots + eps) + eps)
    return 1 - math.sqrt(1 - math.exp(-min(max(t1 + t2 + t3, eps), 100)) + eps)


def test_the_golden_boxes_follow_from_the_contract_alone() -> None:
    """A decoder in plain Python, from the contract's sentences, gives the golden boxes of a random output."""
    random = np.random.default_rng(4)
    shape = ImageShape.square(128)
    box = letterbox(np.zeros((90, 150, 3), np.uint8), shape)
    raw = np.concatenate(
        [random.uniform(10, 118, (2, 200)), random.uniform(5, 40, (2, 200)), random.uniform(0, 1, (2, 200)) ** 2, random.uniform(-0.7, 2.3, (1, 200))]
    ).astype(np.float32)  # fmt: skip
    contract = obb_postprocess(TASK.app, "anchors", len(TASK.names))
    assert (contract["layout"], contract["nms"], contract["best"]) == ("anchors", "app", None)
    assert contract["outputs"]["output"].startswith("[7, anchors], a column is cx, cy, w, h")
    candidates = []
    for x, y, w, h, *scores, angle in raw.T.tolist():
        best = max(scores)
        if best > TASK.app.confidence:
            candidates.append((best, scores.index(best), [x, y, w, h, angle]))
    candidates.sort(key=lambda each: -each[0])
    wanted = []
    for number, (score, cls, (x, y, w, h, angle)) in enumerate(candidates):
        rivals = [other for _, theirs, other in candidates[:number] if theirs == cls]
        if all(_prob_iou_of_the_contract(other, [x, y, w, h, angle]) < 0.7 for other in rivals):
            scale = min(128 / 150, 128 / 90)
            centre = ((x - box.left) / scale, (y - box.top) / scale)
            u = [w / scale / 2 * math.cos(angle), w / scale / 2 * math.sin(angle)]
            v = [-h / scale / 2 * math.sin(angle), h / scale / 2 * math.cos(angle)]
            corners = [
                [c + i * a + j * b for c, a, b in zip(centre, u, v, strict=True)] for i, j in ((1, 1), (1, -1), (-1, -1), (-1, 1))
            ]  # fmt: skip
            wanted.append((cls, score, centre, (w / scale, h / scale), angle, corners))
    golden = TASK.golden(TASK.found({"output": raw}, TASK.app, box, "anchors"))["detections"]
    assert 20 < len(golden) == len(wanted) < len(candidates)
    for row, (cls, score, centre, size, angle, corners) in zip(golden, wanted, strict=True):
        assert (row["class"], row["score"]) == (cls, pytest.approx(score, abs=1e-6))
        assert row["centre"] == pytest.approx(centre, abs=2e-3)
        assert row["size"] == pytest.approx(size, abs=2e-3)
        assert row["angle"] == pytest.approx(angle, abs=1e-6)
        assert np.array(row["corners"]) == pytest.approx(np.array(corners), abs=2e-3)


def test_shapes_are_the_corners_within_bounds_and_marks_go_by_prob_iou() -> None:
    found = _rotated((60, 50, 40, 20, 0.5, 0.9, 1), (9e9, 0, 1, 1, 0, 0.3, 0))
    first, far = TASK.shapes(found)
    assert (first.name, first.score) == ("ship", 0.9)
    corners = to_corners(np.array([[60, 50, 40, 20, 0.5]]))[0]
    assert np.array(first.outlines[0]) == pytest.approx(corners, abs=0.051)
    assert {x for x, _ in far.outlines[0]} == {1e5}
    turned = _rotated((60, 50, 20, 40, 0.5 + math.pi / 2, 0.8, 1), (0, 0, 9, 9, 0, 0.7, 0))
    marks = TASK.marks(found, turned)
    assert (marks.source, marks.artifact) == ((None, "lost"), (None, "added"))
    (label,) = TASK.truth_shapes(Truth(np.array([[60.0, 50, 40, 20, 0.5]]), np.array([0])))
    assert (label.name, label.score, label.outlines) == ("car", None, first.outlines)


def test_the_contract_of_other_layouts() -> None:
    one_to_one = TASK.app.for_head("one-to-one")
    for layout, start in (("anchors", "[7, anchors]"), ("rows", "[k, 7]")):
        contract = obb_postprocess(one_to_one, layout, len(TASK.names))
        assert (contract["nms"], contract["best"], "prob_iou" in contract) == ("none", 300, False)
        assert contract["outputs"]["output"].startswith(start)
