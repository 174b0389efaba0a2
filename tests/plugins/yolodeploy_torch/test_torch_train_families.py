"""Every family trains: with plain distances, with two heads, with attention, and from a teacher of another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import oracle
from real_model import RealModel
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
    return replace(given, names=view.names, head=head)


@pytest.mark.parametrize(
    ("name", "amp"),
    [
        ("yolov5n", False),
        ("yolov9t", False),
        ("yolov10n", False),
        ("yolo11n", False),
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


@pytest.mark.parametrize("name", ["yolov10n", "yolo26n"])
def test_both_heads_learn_and_only_one_of_them_teaches_the_backbone(
    name: str, view: Dataset, tmp_path: Path
) -> None:
    model = unfreeze(read(made(name, tmp_path, view.names).path))
    params = Finetune.model_validate(SMALL)
    shape = context(tmp_path / "c", SIDE).imgsz
    objective = Objective(Trainable(model), params, shape)
    batch = next(Batches(view, shape, params.augment, 0).epoch(0, 2))
    parts = objective(batch)
    assert list(parts) == [
        f"{head} {part}"
        for head in ("one-to-many", "one-to-one")
        for part in ("box", "cls", "distance")
    ]
    for head in ("one-to-many", "one-to-one"):
        model.zero_grad()
        mine = [value for key, value in parts.items() if key.startswith(head)]
        torch.stack(mine).sum().backward(retain_graph=True)
        touched = {
            name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
        }
        own = {name for name in touched if name.startswith("model.23.")}
        assert own
        assert all(("one2one" in name) == (head == "one-to-one") for name in own)
        assert bool(touched - own) == (head == "one-to-many")


def test_a_teacher_of_another_family_teaches(
    view: Dataset, demo: RealModel, tmp_path: Path
) -> None:
    """The YOLOv8 demo model alone, without labels: scores and sides of the heads that both have, and features."""
    student = made("yolo26n", tmp_path, view.names)
    teacher = {"file": demo.weights, "sha256": "0" * 64}
    params = Distill.model_validate({**SMALL, "labels": 0, "teacher": teacher})
    results = [
        distill(student, params, given(tmp_path / work, view, student)) for work in ("a", "b")
    ]
    told = json.loads((results[0] / "training.json").read_text(encoding="utf-8"))
    assert told["loss"][1] < told["loss"][0]
    assert tree_digest(results[0]) == tree_digest(results[1])
