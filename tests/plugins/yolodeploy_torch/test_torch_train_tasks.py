"""Models of every task train: from labels, from a teacher, in 8 bits and after cuts; what they cannot is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_tasks import MIRRORED, NAMES, drawn, drawn_crops
from families import run
from torch_support import context, load

from yolodeploy.backend import Artifact, Context, ModelInfo
from yolodeploy.backend.model_info import misfit
from yolodeploy.compress.learned_ranges import RANGES_FILE, read_ranges
from yolodeploy.data import KeypointShape
from yolodeploy.data.dataset import Dataset
from yolodeploy.errors import ModelError
from yolodeploy.system import ImageShape
from yolodeploy.system.digest import tree_digest
from yolodeploy_torch.graph import graph_in
from yolodeploy_torch.model import Trainable, macs, read, threads, unified_scales
from yolodeploy_torch.params import Augment, Distill, Finetune, Gains, Prune, Qat
from yolodeploy_torch.pruning import prune
from yolodeploy_torch.qat import qat
from yolodeploy_torch.training import distill, finetune, fits_labels, fits_model
from yolodeploy_torch.training.batches import Batches
from yolodeploy_torch.training.finetune import unfreeze
from yolodeploy_torch.training.objective import Objective
from yolodeploy_torch.training.teaching import require_comparable

pytest.importorskip("ultralytics", reason="builds the models. Run: pip install 'yolodeploy[train]'")
SIDE = 64
SHAPE = ImageShape.square(SIDE)
STILL = dict.fromkeys(Augment.model_fields, 0)
SMALL: dict[str, Any] = {
    "epochs": 2, "batch": 2, "threads": 1, "holdout": 0.3, "lr": 0.002, "augment": STILL
}  # fmt: skip
FREE = {**SMALL, "labels": 0, "holdout": 0}
KINDS = {  # the model of a task, its head, and what that is made with
    "segment": ("Segmentation", "Segment26", ["nc", 32, 8]),
    "pose": ("Pose", "Pose26", ["nc", "kpt_shape"]),
    "obb": ("OBB", "OBB26", ["nc", 1]),
    "classify": ("Classification", "Classify", ["nc"]),
}
MEASURES = {
    "segment": "mask_map50_95",
    "pose": "pose_map50_95",
    "obb": "map50_95",
    "classify": "top1",
}
RESPONSES = {"segment": ["masks"], "pose": ["places", "visibilities"], "obb": ["angles"]}
TAUGHT = {"scores", "sides", "classes", "features", *chain(*RESPONSES.values())}
LABELS = {"segment": ["mask"], "pose": ["keypoints", "visibility"], "obb": []}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


class Given:
    """A model of a task with random weights, as the step `load` writes it, and images with labels."""

    def __init__(self, task: str, folder: Path) -> None:
        from ultralytics.nn import tasks

        torch.manual_seed(0)
        kind, head, made_with = KINDS[task]
        levels = -1 if task == "classify" else [2, 3]
        built = {
            "nc": 3, "kpt_shape": [4, 3], "end2end": True, "reg_max": 1, "head": [[levels, 1, head, made_with]],
            "backbone": [[-1, 1, "Conv", [width, 3, 2]] for width in (8, 16, 16, 24)],
        }  # fmt: skip
        model = getattr(tasks, f"{kind}Model")(built, verbose=False)
        model.names = dict(enumerate("abc" if task == "classify" else NAMES))
        path = folder / f"{task}.pt"

        def save() -> None:
            if task == "classify":
                model.model[-1].linear.weight.data.mul_(0.1)
            torch.save({"model": model.half()}, path)

        run(model, path, save, (SIDE, SIDE))
        self.task, self.folder = task, folder
        self.loaded = load(path, folder / "loaded")
        self.info = ModelInfo.read(self.loaded.path)
        crops = task == "classify"
        self.view: Dataset = drawn_crops(folder / "data") if crops else drawn(folder / "data", task)

    def context(self, work: Path) -> Context:
        views = {"training": self.view, "calibration": self.view}
        made = replace(context(work, SIDE), data=views, source=self.loaded, model=self.info)
        return replace(made, imgsz=self.info.images(SHAPE))


@pytest.fixture(scope="module", params=KINDS)
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(request.param, tmp_path_factory.mktemp(request.param))


def history(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return found


def test_from_labels_and_a_teacher_with_the_same_bytes_twice(given: Given, tmp_path: Path) -> None:
    params = Distill.model_validate({**SMALL, "epochs": 1, "augment": {}})
    results = [distill(given.loaded, params, given.context(tmp_path / n)) for n in ("a", "b")]
    told = history(results[0])
    assert sorted(told) == sorted(("best", "loss", MEASURES[given.task]))
    assert (len(told["loss"]), len(told[MEASURES[given.task]])) == (1, 1)
    assert tree_digest(results[0]) == tree_digest(results[1])
    old, new = (read(path) for path in (given.loaded.path, results[0]))
    assert graph_in(old) == graph_in(new)
    assert not torch.equal(*(next(model.parameters()) for model in (old, new)))


def test_the_parts_of_the_loss_and_whom_they_train(given: Given) -> None:
    """A student that is its teacher has no loss but that on labels; of two heads one trains what both read."""
    model, shape = unfreeze(read(given.loaded.path)), given.info.images(SHAPE)
    objective = Objective(
        Trainable(model), Distill.model_validate(SMALL), shape, read(given.loaded.path)
    )
    made = Batches(given.view, shape, Augment.model_validate(STILL), 0, objective.masks)
    batch = next(made.epoch(0, 3))
    parts = objective(batch)
    if given.task == "classify":
        assert list(parts) == ["cls", "classes", "features"]
        expected = torch.nn.functional.cross_entropy(model(batch.images).log(), batch.targets.cls)
        torch.testing.assert_close(parts["cls"], expected)
    else:
        labels = ["box", "cls", "distance", *LABELS[given.task]]
        responses = ["scores", "sides", *RESPONSES[given.task]]
        heads = ("one-to-many", "one-to-one")
        names = [
            f"{head} {name}" for some in (labels, responses) for head in heads for name in some
        ]
        assert list(parts) == [*names, "features"]
    taught = {name: part for name, part in parts.items() if name.split()[-1] in TAUGHT}
    assert len(taught) > 1
    assert all(part.item() == pytest.approx(0, abs=1e-4) for part in taught.values())
    if given.task == "classify":
        return
    branches = {node.name: node.branch for node in graph_in(model).nodes}
    for head in ("one-to-many", "one-to-one"):
        model.zero_grad()
        own = [part for name, part in parts.items() if name.startswith(head)]
        torch.stack(own).sum().backward(retain_graph=True)
        touched = {
            branches[name.rpartition(".")[0]]
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        assert touched == ({head, None} if head == "one-to-many" else {head})


def test_cut_and_taught_without_labels_it_gets_nearer_to_what_it_was(
    given: Given, tmp_path: Path
) -> None:
    how = Prune(keep=0.6, importance="taylor")
    cut = Artifact("yolo", prune(given.loaded, how, given.context(tmp_path / "cut")), "")
    smaller, whole = (graph_in(read(each.path)) for each in (cut, given.loaded))
    assert macs(smaller, SIDE, SIDE) <= 0.6 * macs(whole, SIDE, SIDE)
    params = Distill.model_validate(FREE)
    told = history(distill(cut, params, given.context(tmp_path / "taught")))
    assert told["loss"][-1] < told["loss"][0]
    assert told[MEASURES[given.task]] == []


def test_in_8_bits_it_learns_to_give_what_it_gave(given: Given, tmp_path: Path) -> None:
    params = Qat.model_validate({**FREE, "lr": 1e-5})
    made = qat(given.loaded, params, given.context(tmp_path / "qat"))
    told = history(made)
    assert told["loss"][-1] < max(
        told["loss"][0], 1e-3
    )  # what rounding costs can be next to nothing
    ranges, graph = read_ranges(made), graph_in(read(made))
    assert ranges is not None
    needed = {node.name for node in graph.needed()}
    assert ranges.reads.keys() == {name for name in unified_scales(graph) if name in needed}
    assert (made / RANGES_FILE).is_file()


def test_finetuned_on_labels_alone(given: Given, tmp_path: Path) -> None:
    params = Finetune.model_validate({**SMALL, "holdout": 0})
    told = history(finetune(given.loaded, params, given.context(tmp_path / "work")))
    assert len(told["loss"]) == 2
    assert told["loss"][1] < told["loss"][0]


def test_what_is_refused_before_anything_runs(tmp_path: Path) -> None:
    classes, poses = (
        ModelInfo("classify", ("a", "b"), (32,), 1),
        ModelInfo("pose", ("a",), (8, 16, 32), 1, kpt_shape=(4, 3)),
    )
    mosaic = Augment(mosaic=0.5)
    for params in (Finetune(augment=mosaic), Prune(finetune=Finetune(augment=mosaic))):
        reason = str(fits_model(params, classes))
        assert re.search(r"`augment: mosaic: 0.5` joins four images.* Write mosaic: 0", reason)
        assert fits_model(params, poses) is None
    assert fits_model(Prune(importance="taylor"), classes) is None
    view = drawn(tmp_path, "pose")
    assert view.keypoints == KeypointShape(4, 3, MIRRORED)
    unnamed = replace(view, keypoints=KeypointShape(4, 3))
    reason = str(fits_labels(Finetune(), unnamed))
    assert re.search(
        r"`augment: flip: 0.5` mirrors .*data.yaml does not say .* Add `flip_idx` .*flip: 0}`",
        reason,
    )
    for params, some in (
        (Finetune(), view),
        (Finetune(augment=Augment(flip=0)), unnamed),
        (Distill(labels=0), unnamed),
        (Prune(importance="taylor"), unnamed),
        (Finetune(), replace(unnamed, keypoints=KeypointShape(1, 3))),
    ):
        assert fits_labels(params, some) is None
    assert "is for `classify`, the model for `pose`" in str(misfit("teacher x.pt", classes, poses))
    other = replace(poses, kpt_shape=(17, 3))
    assert "`kpt_shape` [17, 3], the model [4, 3]" in str(misfit("teacher x.pt", other, poses))


@pytest.mark.parametrize("given", ["segment"], indirect=True)
def test_a_teacher_with_other_prototypes_is_refused(given: Given) -> None:
    graph = graph_in(read(given.loaded.path))
    coarse = graph.head.model_copy(update={"prototypes": graph.detection.features[0]})
    teacher = graph.model_copy(update={"head": coarse})
    with pytest.raises(ModelError, match=r"masks of 8 x 8 pixels, the model of 16 x 16"):
        require_comparable(graph, teacher, Gains(0, 1, 1), SHAPE)
    require_comparable(graph, teacher, Gains(0, 0, 1), SHAPE)
