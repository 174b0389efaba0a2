"""A model of whose head only the output is known: it runs, is cut, and learns without labels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from real_model import ROOT, RealModel
from torch_support import context, load

from yolodeploy.backend import NO_MODEL, Artifact, Context, ModelInfo, PinnedFile
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import ModelError, PlanRefused
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import (
    IMAGE,
    Conv,
    Graph,
    OpenHead,
    Reshape,
    Unsupported,
    build,
    graph_in,
)
from yolodeploy_torch.losses.distillation import output_losses
from yolodeploy_torch.model import (
    channel_groups,
    exportable,
    features,
    info,
    keep_classes,
    macs,
    read,
    traced,
    write,
)
from yolodeploy_torch.params import Augment, Distill, Finetune, Prune, Qat
from yolodeploy_torch.pruning import prune
from yolodeploy_torch.qat import qat
from yolodeploy_torch.training import distill, finetune, fits_model, labels_for

SIDE = 96
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
STILL = dict.fromkeys(Augment.model_fields, 0)
FREE: dict[str, Any] = {
    "labels": 0, "epochs": 3, "batch": 4, "threads": 1, "holdout": 0.25, "augment": STILL
}  # fmt: skip


def opened(source: Artifact, folder: Path) -> Artifact:
    """The same model as if only the output of its head were known."""
    model = read(source.path)
    folder.mkdir()
    write(folder, graph_in(model).opened(), model.state_dict())
    return Artifact("yolo", folder, "")


@pytest.fixture(scope="module")
def yolo11(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("open")
    return opened(load(ROOT / "models" / "shapes-yolo11.pt", folder / "loaded"), folder / "open")


@pytest.fixture(scope="module")
def yolo26(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("open")
    return load(ROOT / "models" / "shapes-yolo26.pt", folder / "loaded")


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=16), 0)


def given(work: Path, view: Dataset, source: Artifact) -> Context:
    views = {"calibration": view, "training": view}
    return replace(
        context(work, SIDE), data=views, source=source, model=replace(NO_MODEL, names=view.names)
    )


def history(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return found


def test_it_is_the_same_model_and_says_what_is_known(yolo11: Artifact, tmp_path: Path) -> None:
    graph = graph_in(read(yolo11.path))
    assert isinstance(graph.head, OpenHead)
    assert ModelInfo.read(yolo11.path) == info(graph)
    assert (info(graph).known, info(graph).heads) == ("layers", ("one-to-many",))
    whole = read(load(ROOT / "models" / "shapes-yolo11.pt", tmp_path / "whole").path)
    with torch.inference_mode():
        output, expected = read(yolo11.path)(IMAGES), whole(IMAGES)
        assert torch.equal(output, expected)
        script = traced(yolo11.path, ImageShape.square(SIDE))
        assert torch.allclose(script(IMAGES[:1]), expected[:1], atol=1e-3)
    groups = {group.name for group in channel_groups(graph).groups}
    assert groups == {group.name for group in channel_groups(graph_in(whole)).groups}
    assert macs(graph, SIDE, SIDE) == macs(graph_in(whole), SIDE, SIDE)


def test_an_output_without_duplicates_ends_in_the_same_rows(
    yolo26: Artifact, tmp_path: Path
) -> None:
    open_ = opened(yolo26, tmp_path / "open")
    assert ModelInfo.read(open_.path).head == "one-to-one"
    with torch.inference_mode():
        rows, expected = (
            exportable(each.path, ImageShape.square(SIDE), rows=True)(IMAGES[:1])
            for each in (open_, yolo26)
        )
    assert torch.equal(rows[..., 4:], expected[..., 4:])
    assert torch.allclose(rows, expected, atol=1e-3)


def test_images_of_another_size_than_the_graph_is_for_are_refused(
    yolo11: Artifact, tmp_path: Path
) -> None:
    graph, model = graph_in(read(yolo11.path)), read(yolo11.path)
    write(tmp_path, graph.model_copy(update={"size": (64, 128)}), model.state_dict())
    with pytest.raises(PlanRefused, match=r"64 x 128 pixels alone .* imgsz: \[64, 128\]"):
        exportable(tmp_path, ImageShape.square(SIDE))
    assert exportable(tmp_path, ImageShape(64, 128))(torch.zeros(1, 3, 64, 128)).shape[2] == 168


@pytest.mark.parametrize("chosen", [(2, 0), (1,), (0, 1, 2)])
def test_kept_classes_have_the_scores_that_they_had(
    chosen: tuple[int, ...], yolo11: Artifact, tmp_path: Path
) -> None:
    model = read(yolo11.path)
    smaller, state = keep_classes(graph_in(model), model.state_dict(), chosen)
    write(tmp_path, smaller, state)
    assert ModelInfo.read(tmp_path).names == tuple(graph_in(model).head.names[n] for n in chosen)
    with torch.inference_mode():
        rows = [0, 1, 2, 3, *(4 + number for number in chosen)]
        assert torch.equal(read(tmp_path)(IMAGES), model(IMAGES)[:, rows])


def test_too_many_single_classes_are_refused(yolo11: Artifact) -> None:
    model = read(yolo11.path)
    graph = graph_in(model)
    names = tuple(map(str, range(200)))
    wide = graph.model_copy(update={"head": graph.head.model_copy(update={"names": names})})
    with pytest.raises(Unsupported, match="fall into 100 pieces"):
        keep_classes(wide, model.state_dict(), range(0, 100, 2))


def test_cut_and_taught_without_labels_it_gets_nearer_to_what_it_was(
    yolo11: Artifact, view: Dataset, tmp_path: Path
) -> None:
    cut = prune(yolo11, Prune(keep=0.6), given(tmp_path / "cut", view, yolo11))
    smaller, whole = read(cut), read(yolo11.path)
    assert macs(graph_in(smaller), SIDE, SIDE) <= 0.6 * macs(graph_in(whole), SIDE, SIDE)
    assert graph_in(smaller).head == graph_in(whole).head
    assert len(features(graph_in(smaller))) == 3
    params = Distill.model_validate({**FREE, "lr": 0.002})
    taught = distill(Artifact("yolo", cut, ""), params, given(tmp_path / "taught", view, yolo11))
    told = history(taught)
    assert told["loss"][-1] < 0.8 * told["loss"][0]
    assert len(told["map50_95"]) == 3
    images = torch.cat([torch.from_numpy(i) for i in view.letterboxed(ImageShape.square(SIDE))])
    with torch.inference_mode():
        wanted = whole(images)
        before, after = (sum(output_losses(one(images), wanted)) for one in (smaller, read(taught)))
    assert wanted.shape == smaller(images).shape
    assert float(after) < 0.8 * float(before)
    same = output_losses(wanted, wanted)
    assert (float(same.scores), float(same.boxes)) == (0, 0)


def test_in_8_bits_it_learns_to_give_what_it_gave(
    yolo11: Artifact, view: Dataset, tmp_path: Path
) -> None:
    params = Qat.model_validate({**FREE, "lr": 2e-5, "epochs": 6, "holdout": 0})
    told = history(qat(yolo11, params, given(tmp_path / "qat", view, yolo11)))
    assert told["loss"][-1] < 0.8 * told["loss"][0]


def test_losses_on_labels_are_refused(yolo11: Artifact, view: Dataset, tmp_path: Path) -> None:
    model = ModelInfo.read(yolo11.path)
    known = replace(model, known="head")
    one, other = (
        PinnedFile.model_construct(file=Path(name), sha256="0" * 64)
        for name in ("other.pt", "other.onnx")
    )
    for params, remedy in (
        (Finetune(), "Use `distill` with labels: 0"),
        (Distill(), "Write labels: 0"),
        (Qat(labels=0.5), "`labels: 0.5` .* Write labels: 0"),
        (Prune(importance="taylor"), "Write importance: magnitude or bn_scale"),
        (Prune(finetune=Finetune()), "importance: magnitude or bn_scale alone"),
        (Distill.model_construct(labels=0, teacher=one, feature=0.25), "Write feature: 0"),
    ):
        reason = fits_model(params, model)
        assert reason is not None
        assert re.search(remedy, reason), reason
        assert fits_model(params, known) is None
    strange = Distill.model_construct(teacher=other)
    assert "`teacher: other.onnx` is no checkpoint" in str(fits_model(strange, known))
    assert fits_model(Distill(labels=0), model) is None
    assert fits_model(Prune(importance="bn_scale"), model) is None
    with pytest.raises(ModelError, match="Write labels: 0"):
        finetune(yolo11, Finetune(threads=1), given(tmp_path / "finetune", view, yolo11))


def test_what_labels_are_read_for() -> None:
    assert labels_for(Finetune()) == labels_for(Distill()) == "learns from labels"
    assert "holdout: 0 takes the last" in str(labels_for(Distill(labels=0)))
    assert labels_for(Qat(labels=0, holdout=0)) is None


def test_open_heads_of_other_tasks_are_pruned_but_not_trained() -> None:
    pose = replace(NO_MODEL, task="pose", names=("one",), known="layers", kpt_shape=(2, 3))
    why = "needs a head that is known, and of this model only the layers and the output are"
    for params in (Finetune(), Distill(labels=0), Qat(labels=0)):
        name = type(params).__name__.lower()
        assert fits_model(params, pose) == f"`{name}` of a model for `pose` {why}. Remove the step."
    for pruned in (Prune(importance="taylor"), Prune(finetune=Finetune())):
        assert str(fits_model(pruned, pose)).endswith(
            "Cut by importance: magnitude or bn_scale, without `finetune`."
        )
    assert fits_model(Prune(), pose) is None


def test_what_a_task_adds_stays_behind_the_scores_that_are_kept() -> None:
    """Of 2 classes and 3 numbers behind them, [1, 9, 4], made by one convolution."""
    conv = Conv(name="all", inputs=(IMAGE,), channels=(3, 13), kernel=(32, 32), stride=(32, 32))
    flat = Reshape(name="flat", inputs=("all",), shape=(0, 0, -1))
    head = OpenHead(
        names=("a", "b", "c"), strides=(32,), output="flat", task="pose", kpt_shape=(2, 3)
    )
    graph = Graph(nodes=(conv, flat), head=head, size=(64, 64))
    graph.check()
    state = {name: torch.rand(shape) for name, shape in graph.tensors().items()}
    smaller, kept = keep_classes(graph, state, [2])
    smaller.check()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        whole, part = build(graph, state)(image), build(smaller, kept)(image)
    assert torch.equal(part, whole[:, [0, 1, 2, 3, 6, *range(7, 13)]])
    assert (info(smaller).task, info(smaller).kpt_shape) == ("pose", (2, 3))
    for odd in (
        {"kpt_shape": (3, 3)},
        {"task": "segment", "kpt_shape": None},
        {"task": "obb", "kpt_shape": None},
    ):
        with pytest.raises(Unsupported, match=r"has no mask coefficients|its output has the shape"):
            graph.model_copy(update={"head": head.model_copy(update=odd)}).check()
