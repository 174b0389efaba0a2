"""Families train: with plain distances, with two heads, with attention, and from a teacher of another one.

One of each kind: the demo model, a YOLOv8, has the head of YOLOv5 and trains in test_torch_train.py, and YOLO11's attention is
in YOLOv10 and YOLO26, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import oracle
from real_model import ROOT, RealModel
from torch.fx import GraphModule
from torch_support import context, load

from yolodeploy.backend import Artifact, Context, Load, ModelInfo
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.recipe.fields import View
from yolodeploy.system.digest import tree_digest
from yolodeploy_torch import facts
from yolodeploy_torch.graph import AnyNode, graph_in
from yolodeploy_torch.model import Trainable, read, threads, write
from yolodeploy_torch.params import Augment, Distill, Finetune
from yolodeploy_torch.training.batches import Batches
from yolodeploy_torch.training.finetune import distill, finetune, unfreeze
from yolodeploy_torch.training.objective import Objective

pytest.importorskip("ultralytics", reason="builds the models. Run: pip install 'yolodeploy[train]'")
SIDE = 96
STILL = dict.fromkeys(Augment.model_fields, 0)
SMALL: dict[str, Any] = {
    "epochs": 2, "batch": 2, "threads": 1, "holdout": 0.2, "lr": 0.005, "augment": STILL
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=5), 0)


def made(name: str, folder: Path, names: tuple[str, ...]) -> Artifact:
    """A model of this family with random weights, for these classes."""
    checkpoint = oracle(name, folder).checkpoint
    some = facts(checkpoint).names[: len(names)]
    loaded = load(checkpoint, folder / f"{name}-loaded", Load(classes=some))
    model = read(loaded.path)
    graph = graph_in(model)
    head = graph.head.model_copy(update={"names": names})
    write(loaded.path, graph.model_copy(update={"head": head}), model.state_dict())
    return loaded


def given(work: Path, view: Dataset, source: Artifact) -> Context:
    head = ModelInfo.read(source.path).head
    given = replace(context(work, SIDE), data={"training": view}, source=source)
    return replace(given, model=replace(given.model, names=view.names, head=head))


@pytest.mark.parametrize(
    ("name", "amp"),
    [
        ("yolov9t", False),
        ("yolov10n", False),
        ("yolo12n", True),
        ("yolo26n", False),
    ],
)
def test_it_trains(name: str, amp: bool, view: Dataset, tmp_path: Path) -> None:
    """Loss falls, all weights change but fixed ones (and those of levels without an object), and it is read again."""
    before = made(name, tmp_path, view.names)
    params = Finetune.model_validate({**SMALL, "amp": amp})
    result = finetune(before, params, given(tmp_path / "work", view, before))
    told = json.loads((result / "training.json").read_text(encoding="utf-8"))
    assert told["loss"][1] < told["loss"][0]
    assert len(told["map50_95"]) == 2
    old, new = read(before.path), read(result)
    assert graph_in(old) == graph_in(new)
    assert {node.part for node in unchanged(old, new)} <= {"dfl", "head", "head.last"}
    fixed = [node for node in graph_in(new).nodes if node.part == "dfl" and node.weights()]
    assert all(node in unchanged(old, new) for node in fixed)


def unchanged(old: GraphModule, new: GraphModule) -> list[AnyNode]:
    """The nodes of which a tensor is the same."""
    before, after = old.state_dict(), new.state_dict()
    names = {key for key, value in after.items() if value.equal(before[key])}
    return [
        node
        for node in graph_in(new).nodes
        if any(f"{node.name}.{key}".rstrip(".") in names for key in node.weights())
    ]


@pytest.fixture
def yolo26(tmp_path: Path) -> Artifact:
    """The trained demo model of YOLO26."""
    return load(ROOT / "models" / "shapes-yolo26.pt", tmp_path / "yolo26")


def test_both_heads_learn_and_only_one_of_them_teaches_the_backbone(
    yolo26: Artifact, view: Dataset, tmp_path: Path
) -> None:
    model = unfreeze(read(yolo26.path))
    shape = context(tmp_path / "c", SIDE).imgsz
    objective = Objective(Trainable(model), Finetune.model_validate(SMALL), shape)
    parts = objective(next(Batches(view, shape, Augment(), 0).epoch(0, 2)))
    heads = ("one-to-many", "one-to-one")
    names = ("box", "cls", "distance")
    assert list(parts) == [f"{head} {part}" for head in heads for part in names]
    branches = {node.name: node.branch for node in graph_in(model).nodes}
    for head in heads:
        model.zero_grad()
        mine = [value for key, value in parts.items() if key.startswith(head)]
        torch.stack(mine).sum().backward(retain_graph=True)
        touched = {
            branches[name.rpartition(".")[0]]
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        assert touched == ({head, None} if head == "one-to-many" else {head})


def test_a_teacher_of_another_family_teaches(
    yolo26: Artifact, view: Dataset, demo: RealModel, tmp_path: Path
) -> None:
    """The YOLOv8 demo model: scores and sides of the heads that both have, and features."""
    teacher = {"file": demo.weights, "sha256": "0" * 64}
    params = Distill.model_validate({**SMALL, "labels": 0.1, "lr": 1e-3, "teacher": teacher})
    results = [distill(yolo26, params, given(tmp_path / work, view, yolo26)) for work in ("a", "b")]
    told = json.loads((results[0] / "training.json").read_text(encoding="utf-8"))
    assert told["loss"][1] < told["loss"][0]
    assert tree_digest(results[0]) == tree_digest(results[1])
