"""ONNX files of the other tasks give what they give in ONNX Runtime, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("onnxsim", reason="not installed. Run: pip install 'yolodeploy[onnx]'")
pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")

import exported as made
from families import task_of
from torch_support import TARGET, context

import yolodeploy_onnx
from yolodeploy.backend import OUTPUT, PROTOTYPES, Artifact, ModelInfo
from yolodeploy.errors import ModelError, PlanRefused
from yolodeploy.planning import plan_recipe
from yolodeploy.recipe import Preprocess
from yolodeploy.recipe.model_input import StatedHead
from yolodeploy.system import ImageShape
from yolodeploy_onnx.interface import Purpose, Unclear, common, purpose, recognise
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.reading import read
from yolodeploy_torch.graph import Graph, OpenHead, Unsupported, build, graph_in
from yolodeploy_torch.model import keep_classes, layer_parts
from yolodeploy_torch.model import read as read_artifact

Array = made.Array
SIZE = (64, 96)
SHAPE = ImageShape(*SIZE)
PIXELS, SCORE = 0.02, 1e-4
OWN = {"segment": "head.proto", "pose": "head.keypoints", "obb": "head.angle", "classify": "head"}


@pytest.mark.parametrize(
    ("name", "options", "selected"),
    [
        ("yolo26n-seg", {"nms": False}, "one-to-one"),
        ("yolo11n-pose", {}, "one-to-many"),
        ("yolov8n-obb", {"nms": True}, "one-to-many"),
        ("yolo11n-cls", {}, "one-to-many"),
    ],
)
def test_a_file_gives_what_onnx_runtime_gives_with_it(
    name: str, options: dict[str, Any], selected: str, tmp_path: Path
) -> None:
    """Through the step `load`: task, keypoints, parts, fit; raw outputs, or the rows that were chosen from them."""
    oracle, task = made.narrow(name, tmp_path, SIZE), task_of(name)
    path = made.export(oracle.checkpoint, SIZE, **options)
    given = replace(context(tmp_path / "work"), imgsz=SHAPE)
    given.work.mkdir(exist_ok=True)
    folder = yolodeploy_onnx.STEPS[0].run(Artifact(".onnx", path, ""), LoadOnnx(), given)
    info = ModelInfo.read(folder)
    assert (info.task, info.names, info.known) == (task, made.NAMES, "head")
    assert (info.head, info.fit) == (selected, "crop" if task == "classify" else "center")
    assert info.kpt_shape == (made.KEYPOINTS if task == "pose" else None)
    assert OWN[task] in layer_parts(folder).values()

    images = oracle.images.numpy()
    expected = made.outputs(path, images)
    found = yolodeploy_onnx.open(Artifact("yolo", folder, ""), TARGET, 1)(images)
    outputs = found if isinstance(found, Mapping) else {OUTPUT: found}
    assert len(outputs) == len(expected)
    if task == "segment":
        largest = abs(expected[1]).max()  # a mask is a sum of them
        near(outputs[PROTOTYPES] / largest, expected[1] / largest, [], axis=1)
    if options:
        for one, other in zip(outputs[OUTPUT], expected[0], strict=True):
            require_chosen_from(one, other[other[:, 4] > 0], task)
    else:
        near(outputs[OUTPUT], expected[0], pixels(info), axis=1)


def pixels(info: ModelInfo) -> list[int]:
    """The numbers of an anchor that are in px."""
    if info.task == "classify":
        return []
    count, numbers = info.kpt_shape or (0, 1)
    points = [
        4 + len(info.names) + numbers * point + axis for point in range(count) for axis in (0, 1)
    ]
    return [0, 1, 2, 3, *points]


def near(found: Array, expected: Array, px: list[int], axis: int) -> None:
    assert found.shape == expected.shape
    apart = np.moveaxis(abs(found - expected), axis, 0).reshape(found.shape[axis], -1).max(1)
    assert apart[px].max(initial=0) <= PIXELS
    assert np.delete(apart, px).max(initial=0) <= SCORE


def require_chosen_from(anchors: Array, rows: Array, task: str) -> None:
    """Every row [n, 6 + E] is an anchor of [4 + nc + E, A], with one of its scores."""
    end = 4 + len(made.NAMES)
    boxes, scores, extras = anchors[:4].T, anchors[4:end], anchors[end:].T
    if task != "obb":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    size = np.maximum(1, abs(extras).max(0))
    assert len(rows) > 1
    for row in rows:
        apart = np.concatenate(
            [
                abs(boxes - row[:4]) / PIXELS,
                abs(scores[int(row[5])] - row[4])[:, None] / SCORE,
                abs(extras - row[6:]) / size / SCORE,
            ],
            1,
        )
        assert apart.max(1).min() <= 1


class Posing(torch.nn.Module):
    """A head that is none of Ultralytics': boxes of one size, scores, and two keypoints, x and y, per cell."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Conv2d(3, 8, 3, 8, 1)
        self.scores, self.places = torch.nn.Conv2d(8, 2, 1), torch.nn.Conv2d(8, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images).relu()
        cells = maps.flatten(2)
        boxes = torch.cat([cells[:, :2] * 9 + 40, cells[:, 2:4] * 0 + 16], 1)
        scores, places = self.scores(maps).flatten(2).sigmoid(), self.places(maps).flatten(2) * 30
        return torch.cat([boxes, scores, places], 1)


@pytest.mark.filterwarnings("ignore")
def test_a_pose_of_another_project_is_read_if_the_recipe_says_what_it_is(tmp_path: Path) -> None:
    model, images = Posing().eval(), torch.rand(1, 3, *SIZE)
    path = tmp_path / "pose.onnx"
    torch.onnx.export(model, (images,), path, dynamo=False, opset_version=17)
    names = ("a", "b")
    told = LoadOnnx(names=names, layout="ultralytics-pose", kpt_shape=(2, 2))
    found = read(path, told, None)
    assert isinstance(found.model, Graph)
    assert isinstance(found.model.head, OpenHead)
    assert (found.model.task, found.model.head.kpt_shape) == ("pose", (2, 2))
    parts = {node.name: node.part for node in found.model.nodes}
    assert (parts["places"], parts["scores"]) == ("head.keypoints", "head.last")
    graph, state = keep_classes(found.model, dict(found.state), [1])
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(build(found.model, found.state)(images), expected)
        less = build(graph, state)(images)
    torch.testing.assert_close(less, expected[:, [0, 1, 2, 3, 5, 6, 7, 8, 9]])
    single = told.model_copy(update={"head": "one-to-one"})
    with pytest.raises(ModelError, match=r"how it decodes what belongs to `pose` is not known"):
        read(path, single, None)


class Scoring(torch.nn.Module):
    """A classifier of another project: logits, and two matrices."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Conv2d(3, 8, 3, 8, 1)
        self.hidden, self.last = torch.nn.Linear(8, 6), torch.nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.body(images).relu().mean((2, 3))
        found: torch.Tensor = self.last(self.hidden(seen).relu())
        return found


@pytest.mark.filterwarnings("ignore")
def test_logits_of_a_classifier_become_probabilities(tmp_path: Path) -> None:
    model, images = Scoring().eval(), torch.rand(2, 3, *SIZE)
    path = tmp_path / "classes.onnx"
    torch.onnx.export(model, (images[:1],), path, dynamo=False, opset_version=17)
    given = replace(context(tmp_path / "work"), imgsz=SHAPE)
    given.work.mkdir(exist_ok=True)
    params = LoadOnnx(names=made.NAMES, preprocess=Preprocess(scale=1))
    folder = yolodeploy_onnx.STEPS[0].run(Artifact(".onnx", path, ""), params, given)
    info = ModelInfo.read(folder)
    assert (info.task, info.known, info.fit) == ("classify", "layers", "crop")
    network = read_artifact(folder)
    assert isinstance(graph_in(network).head, OpenHead)
    with pytest.raises(Unsupported, match=r"their probabilities add up to 1"):
        keep_classes(graph_in(network), network.state_dict(), [0, 1])
    found = yolodeploy_onnx.open(Artifact("yolo", folder, ""), TARGET, 1)(images.numpy())
    expected = model(images * 255).softmax(1).detach().numpy()
    assert abs(found - expected).max() <= 1e-5
    told = yolodeploy_onnx.inspect(made.changed(path, {"names": "['a', 'b', 'c']"}))
    assert told is not None
    assert told.info is not None
    assert told.info.task == "classify"


@pytest.mark.parametrize(
    ("name", "fit", "said"),
    [
        ("yolo11n-cls", "center", "`fit: center` is not available for a model for `classify`"),
        ("yolo11n-seg", "crop", "`fit: crop` cuts off the sides of images"),
    ],
)
def test_a_fit_that_the_model_would_not_get_is_refused(
    name: str, fit: str, said: str, tmp_path: Path
) -> None:
    """It was altered once: a classifier's images are cropped, whatever the recipe said."""
    oracle = made.narrow(name, tmp_path, SIZE)
    path = made.export(oracle.checkpoint, SIZE)
    data = _pictures(tmp_path / "data", folders=name.endswith("cls"))
    recipe = tmp_path / "odd.yaml"
    recipe.write_text(
        f"name: odd\nmodel: {{weights: {path}, imgsz: [{SIZE[0]}, {SIZE[1]}], preprocess: {{fit: {fit}}}}}\n"
        f"data: {{path: {data}}}\ntarget: linux-x64\nsteps: [export]\n"
    )
    with pytest.raises(PlanRefused, match=rf"odd\.yaml:2:\d+: {said}"):
        plan_recipe(recipe, tmp_path / "store")


def _pictures(folder: Path, *, folders: bool) -> Path:
    """A data set of two pictures: class folders, or a data.yaml."""
    places = [f"val/{name}" for name in made.NAMES] if folders else ["images/val"]
    for place in places:
        (folder / place).mkdir(parents=True)
        cv2.imwrite(str(folder / place / "one.png"), np.zeros((32, 32, 3), np.uint8))
    if folders:
        return folder
    (folder / "data.yaml").write_text(f"val: images/val\nnames: {list(made.NAMES)}\n")
    return folder / "data.yaml"


def table(*shape: int) -> Array:
    return np.random.default_rng(0).random(shape, np.float32)


METADATA = {"task": "pose", "kpt_shape": "[4, 3]"}


@pytest.mark.parametrize(
    ("metadata", "shapes", "stated", "task"),
    [
        (METADATA, [(1, 19, 126)], None, "pose"),
        ({"task": "obb"}, [(1, 126, 8)], None, "obb"),
        ({}, [(1, 39, 126), (1, 32, 16, 24)], None, "segment"),
        ({}, [(1, 32, 16, 24), (1, 39, 126)], None, "segment"),
        ({}, [(1, 3)], None, "classify"),
        ({}, [(1, 7, 126)], None, "detect"),
        ({}, [(1, 8, 126)], None, "detect"),
        ({}, [(1, 8, 126)], "ultralytics-obb", "obb"),
        ({"task": "pose"}, [(1, 7, 126)], "ultralytics", "detect"),
    ],
)
def test_the_task_is_told(
    metadata: dict[str, str], shapes: list[tuple[int, ...]], stated: Any, task: str
) -> None:
    outputs = {f"output{i}": table(*shape) for i, shape in enumerate(shapes)}
    found = purpose(made.NAMES, metadata, outputs, stated, None)
    assert found.task == task
    form = recognise(outputs, found, SHAPE, stated)
    assert (form.task, form.extras) == (task, found.extras)
    assert common(outputs, form, SHAPE).shape[1] == (3 if task == "classify" else found.columns)


@pytest.mark.parametrize(
    ("metadata", "shapes", "said"),
    [
        ({"task": "segment"}, [(1, 39, 126), (1, 16, 16, 24)], r"prototypes of masks \[1, 32, 16, 24\].* \[1, 16, 16, 24\]"),
        ({"task": "segment"}, [(1, 23, 126), (1, 32, 16, 24)], r"gives \[1, 39, A\]: .* 32 mask coefficients, .* \[1, 23, 126\]"),
        ({"task": "segment"}, [(1, 39, 126)], r"gives prototypes of masks .* its outputs are output0 \[1, 39, 126\]"),
        ({"task": "segment"}, [(1, 39, 126), (1, 32, 32, 48)], r"a quarter of the image's size"),
        ({"task": "pose", "kpt_shape": "[5, 3]"}, [(1, 19, 126)], r"\[1, 22, A\]: .* the 15 numbers of its `kpt_shape` \[5, 3\]"),
        ({"task": "pose"}, [(1, 19, 126)], r"does not say what they are\. Write `head: \{layout: ultralytics-pose, kpt_shape"),
        ({"task": "pose", "kpt_shape": "[4, 1]"}, [(1, 11, 126)], r"has the unusable `kpt_shape` '\[4, 1\]'"),
        ({"task": "pose", "kpt_shape": "[True, 3]"}, [(1, 10, 126)], r"has the unusable `kpt_shape`"),
        ({"task": "obb"}, [(1, 7, 126)], r"a model for `obb` gives \[1, 8, A\]: a box, the scores, and an angle"),
        ({"task": "obb"}, [(1, 8, 8)], r"\[1, 8, 8\] could be read in two ways"),
        ({}, [(1, 19, 126)], r"Of poses and rotated boxes the layout must be said, `ultralytics-pose` or `ultralytics-obb`"),
        ({"task": "classify"}, [(1, 5)], r"a classifier of 3 classes gives one output \[1, 3\], and it gives output0 \[1, 5\]"),
        ({"task": "depth"}, [(1, 64, 96)], r"task `depth`, and detect, segment, pose, obb, classify are known"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_task_is_refused(
    metadata: dict[str, str], shapes: list[tuple[int, ...]], said: str
) -> None:
    outputs = {f"output{i}": table(*shape) for i, shape in enumerate(shapes)}
    with pytest.raises(Unclear, match=said):
        recognise(outputs, purpose(made.NAMES, metadata, outputs, None, None), SHAPE, None)


def test_logits_where_scores_belong_are_refused() -> None:
    outputs = {"output0": table(1, 8, 126) - 3}
    with pytest.raises(Unclear, match=r"its scores reach from -3 to -2, where 0\.\.1 is needed"):
        recognise(outputs, Purpose(made.NAMES, "obb"), SHAPE, None)


def test_keypoints_are_stated_with_their_layout() -> None:
    stated = StatedHead(layout="ultralytics-pose", kpt_shape=(17, 3))
    assert stated.model_dump() == {"layout": "ultralytics-pose", "kpt_shape": (17, 3), "kind": None}
    with pytest.raises(ValueError, match="Write it with layout: ultralytics-pose, or remove it"):
        StatedHead(layout="yolov5", kpt_shape=(17, 3))
    with pytest.raises(ValueError, match="Input should be 2 or 3"):
        StatedHead.model_validate({"layout": "ultralytics-pose", "kpt_shape": [17, 4]})
