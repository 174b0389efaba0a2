"""Heads of every task are read as they compute: against Ultralytics, both heads of YOLO26, and as they are exported."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import Oracle, oracle, run, task_differences, task_of
from pruned import random_cut, silenced
from torch import Tensor
from torch_support import TARGET, load

import yolodeploy_torch
from yolodeploy.backend import OUTPUT, PROTOTYPES, Artifact, Load, ModelInfo
from yolodeploy.errors import ModelError
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import build, graph_in, select
from yolodeploy_torch.model import Trainable, exportable, parts, read, traced
from yolodeploy_torch.params import Distill, Finetune, Prune, Qat
from yolodeploy_torch.pruning.shrink import shrink
from yolodeploy_torch.training import fits_model

pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
SIZE = (64, 96)
NAMES = tuple(
    f"{family}-{task}"
    for family in ("yolov8n", "yolo11n", "yolo26n")
    for task in ("seg", "pose", "obb", "cls")
)

_OF_ONE = tuple(name for name in NAMES if name.startswith("yolo26n") and not name.endswith("cls"))
both_heads = pytest.mark.parametrize("model", _OF_ONE, indirect=True)
each_head = pytest.mark.parametrize(
    "model", ["yolov8n-obb", *_OF_ONE, "yolo11n-cls"], indirect=True
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Oracle, Artifact]]:
    @cache
    def made(name: str) -> tuple[Oracle, Artifact]:
        folder = tmp_path_factory.mktemp(name)
        expected = oracle(name, folder, size=SIZE)
        return expected, load(expected.checkpoint, folder / "work")

    return made


@pytest.fixture(params=NAMES)
def model(
    request: pytest.FixtureRequest, model_of: Callable[[str], tuple[Oracle, Artifact]]
) -> tuple[Oracle, Artifact, str]:
    """What Ultralytics computes with a model, and the model as the step `load` writes it."""
    return *model_of(request.param), task_of(request.param)


def near(one: Tensor, other: Tensor, task: str) -> None:
    pixels, rest = task_differences(one, other, task)
    assert (pixels <= 1e-3, rest <= 1e-5) == (True, True), (pixels, rest)


def test_outputs_are_those_of_ultralytics(model: tuple[Oracle, Artifact, str]) -> None:
    expected, loaded, task = model
    info, network = ModelInfo.read(loaded.path), read(loaded.path)
    graph = graph_in(network)
    assert (info.task, info.kpt_shape) == (task, (17, 3) if task == "pose" else None)
    assert info.fit == ("crop" if task == "classify" else "center")
    assert info.strides == ((32,) if task == "classify" else (8, 16, 32))
    with torch.no_grad():
        if task == "classify":
            near(network(expected.images), expected.many, task)
            assert expected.many.max() > 0.05  # so that a wrong class would show
        else:
            (many,) = select(network, [graph.detection.branches["one-to-many"].output])(
                expected.images
            )
            near(many, expected.many, task)
        given = yolodeploy_torch.open(loaded, TARGET, 1)(expected.images.numpy())
    if task == "segment":
        assert list(given) == list(graph.outputs) == [OUTPUT, PROTOTYPES]
        assert expected.prototypes is not None
        delta = np.abs(given[PROTOTYPES] - expected.prototypes.numpy())
        assert delta.max() <= 1e-4 * expected.prototypes.abs().max()  # folding rounds anew
        (prototypes,) = select(network, [graph.outputs[PROTOTYPES]])(expected.images)
        assert (prototypes - expected.prototypes).abs().max() <= 1e-5
    else:
        assert isinstance(given, np.ndarray)
    assert (expected.rows is None) == (info.heads == ("one-to-many",))


@both_heads
def test_rows_are_those_of_ultralytics(model: tuple[Oracle, Artifact, str]) -> None:
    """Of the one-to-one head: box, score, class, then the extras of the same anchor."""
    expected, loaded, task = model
    assert expected.rows is not None
    images, shape = expected.images, ImageShape(*SIZE)
    with torch.no_grad():
        made = exportable(loaded.path, shape, 2, rows=True)(images)
        if task == "segment":
            for one, other in zip(
                made, traced(loaded.path, shape, 2, rows=True)(images), strict=True
            ):
                assert torch.equal(one, other)
    rows = made[0] if task == "segment" else made
    assert rows.shape == expected.rows.shape
    delta = (rows - expected.rows).abs().amax((0, 1))
    assert delta[5] == 0
    # Normalisations are folded, which rounds anew.
    assert delta[:4].max() <= 0.02
    assert delta[4] <= 1e-4
    assert delta[6:].max() <= (0.02 if task == "pose" else 1e-3)


@each_head
def test_cut_channels_are_those_that_were_silent(model: tuple[Oracle, Artifact, str]) -> None:
    """Outputs keep their channels, and a model without others computes what it computes while they are silent."""
    expected, loaded, task = model
    network = read(loaded.path)
    graph = graph_in(network)
    found, kept = random_cut(graph)
    assert not [value for value in graph.head.ends if value in found.channels]
    smaller = build(*shrink(graph, network.state_dict(), found, kept))
    inside = {
        "segment": "proto.upsample",
        "pose": ".cv4.0.0",
        "obb": ".cv4.0.0",
        "classify": ".conv",
    }
    assert any(inside[task] in group.name for group in found.groups)
    models, values = (smaller, silenced(network, found, kept)), list(graph.outputs.values())
    with torch.no_grad():
        ours, theirs = (select(each, values)(expected.images) for each in models)
    near(ours[0], theirs[0], task)
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert (one - other).abs().max() <= 1e-5


@each_head
def test_parts_and_values_for_training(model: tuple[Oracle, Artifact, str]) -> None:
    expected, loaded, task = model
    network = read(loaded.path)
    graph = graph_in(network)
    named = {
        "segment": {"head", "head.last", "head.proto", "neck"},
        "pose": {"head", "head.last", "head.keypoints", "neck"},
        "obb": {"head", "head.last", "head.angle", "neck"},
        "classify": {"head", "head.last"},
    }
    dfl = set() if task == "classify" or graph.detection.reg_max == 1 else {"dfl"}
    assert set(parts(graph).values()) == {"backbone", *named[task], *dfl}
    with torch.no_grad():
        made, whole = Trainable(network)(expected.images), network(expected.images)
    if task == "classify":
        assert made.classes is not None
        torch.testing.assert_close(made.classes.softmax(1), whole)
        return
    logits = made.heads[graph.selected]
    assert [level.shape[2:] for level in logits.extras] == [
        (SIZE[0] // stride, SIZE[1] // stride) for stride in (8, 16, 32)
    ]
    assert logits.decoded is not None
    output = whole[0] if task == "segment" else whole
    assert torch.equal(logits.decoded, output[:, 4 + len(graph.head.names) :])
    if task == "segment":
        assert made.prototypes is not None
        assert torch.equal(made.prototypes, whole[1])


@pytest.mark.parametrize("name", ["yolo26n-seg", "yolov8n-cls"])
def test_some_classes(
    name: str, model_of: Callable[[str], tuple[Oracle, Artifact]], tmp_path: Path
) -> None:
    (expected, whole), task = model_of(name), task_of(name)
    names = graph_in(read(whole.path)).head.names
    chosen = [len(names) - 1, 0][: len(names)]
    asked = Load(classes=tuple(names[number] for number in chosen), head="one-to-many")
    loaded = load(expected.checkpoint, tmp_path / "some", asked)
    assert ModelInfo.read(loaded.path).names == asked.classes
    with torch.no_grad():
        made = read(loaded.path)(expected.images)
    if task == "classify":
        shares = expected.many[:, chosen]
        near(made, shares / shares.sum(1, keepdim=True), task)
        return
    rows = [0, 1, 2, 3, *(4 + number for number in chosen)]
    rest = range(4 + len(names), expected.many.shape[1])
    output = made[0] if task == "segment" else made
    near(output, expected.many[:, [*rows, *rest]], task)


def test_a_classifier_of_one_class_is_refused(
    model_of: Callable[[str], tuple[Oracle, Artifact]], tmp_path: Path
) -> None:
    expected, _ = model_of("yolov8n-cls")
    with pytest.raises(
        ModelError, match=r"keeps only `3` of .*yolov8n-cls\.pt.* Keep at least 2\."
    ):
        load(expected.checkpoint, tmp_path / "one", Load(classes=("3",)))


def test_keypoints_without_visibility(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import PoseModel

    torch.manual_seed(0)
    pose = PoseModel("yolo26n-pose.yaml", nc=2, data_kpt_shape=(5, 2), verbose=False)
    path = tmp_path / "pose.pt"
    expected = run(pose, path, lambda: torch.save({"model": pose.half()}, path), SIZE)
    loaded = load(path, tmp_path / "work", Load(head="one-to-many"))
    assert ModelInfo.read(loaded.path).kpt_shape == (5, 2)
    with torch.no_grad():
        made = read(loaded.path)(expected.images)
    assert made.shape == (2, 4 + 2 + 10, 126)
    torch.testing.assert_close(made, expected.many, rtol=0, atol=1e-3)


def test_heads_of_older_releases_keep_a_function(tmp_path: Path) -> None:
    """Up to Ultralytics 8.1 those of other tasks had `Detect.forward` as an attribute, which a pickle looks up."""
    from ultralytics import YOLO
    from ultralytics.nn.modules.head import Detect

    yolo = YOLO("yolov8n-obb.yaml", verbose=False)
    yolo.model.model[-1].detect = Detect.forward
    yolo.save(tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "old.pt") as file:
        assert b"c__builtin__\ngetattr\n" in file.read("old/data.pkl")
    assert ModelInfo.read(load(tmp_path / "old.pt", tmp_path / "work").path).task == "obb"


def _other_keypoints(head: Any) -> None:
    head.kpt_shape = (5, 3)


def _no_keypoints(head: Any) -> None:
    head.kpt_shape = None


def _single_numbers(head: Any) -> None:
    head.kpt_shape = (51, 1)


def _fewer_coefficients(head: Any) -> None:
    for branch in head.cv4:
        branch[2] = torch.nn.Conv2d(32, 16, 1)


def _two_angles(head: Any) -> None:
    for branch in head.cv4:
        branch[2] = torch.nn.Conv2d(branch[2].in_channels, 2, 1)


def _another_weight(head: Any) -> None:
    head.extra = torch.nn.Linear(2, 2)


def _lost_names(head: Any) -> None:
    head.linear = torch.nn.Linear(1280, 7)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("pose", _other_keypoints, r"gives 51 numbers per anchor, but its `kpt_shape` is \[5, 3\], which is 15"),
        ("pose", _no_keypoints, r"\(Pose\) has no usable `kpt_shape`"),
        ("pose", _single_numbers, r"1 to 1024 keypoints of 2 or 3 numbers are allowed"),
        ("seg", _fewer_coefficients, r"its head reads mask coefficients of shape \(1, 16, .* stride 8"),
        ("obb", _two_angles, r"\(OBB\) gives 2 angles per box, not one"),
        ("obb", _another_weight, r"its weight model\.22\.extra\.bias does not belong to the layers"),
        ("cls", _lost_names, r"it gives 7 class scores, but it names 1000 classes"),
    ],
)  # fmt: skip
def test_a_head_that_does_not_fit_is_refused(
    name: str, change: Callable[[Any], None], reason: str, tmp_path: Path
) -> None:
    from ultralytics import YOLO

    yolo = YOLO(f"yolov8n-{name}.yaml", verbose=False)
    change(yolo.model.model[-1])
    yolo.save(tmp_path / "odd.pt")
    with pytest.raises(ModelError, match=rf"odd\.pt cannot be used: .*{reason}"):
        load(tmp_path / "odd.pt", tmp_path / "work")


def test_models_of_every_task_are_trained_and_pruned() -> None:
    pose = ModelInfo("pose", ("one",), (8, 16, 32), 1, kpt_shape=(2, 3))
    for params in (Finetune(), Qat(), Distill(labels=0), Prune(importance="taylor"), Prune()):
        assert fits_model(params, pose) is None
