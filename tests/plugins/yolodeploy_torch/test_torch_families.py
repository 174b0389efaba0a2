"""Every family is read as it computes: against Ultralytics, both heads, and as it is exported."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from families import SMALLEST, Oracle, differences, oracle, thin
from pruned import random_cut, silenced
from torch_support import TARGET, load

import yolodeploy_torch
from yolodeploy.backend import Artifact, Load, ModelInfo
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import build, graph_in, select
from yolodeploy_torch.model import (
    channel_groups,
    exportable,
    keep_classes,
    macs,
    merged_graph,
    read,
    write,
)
from yolodeploy_torch.model.top_k import best_rows
from yolodeploy_torch.params import Prune
from yolodeploy_torch.pruning.importance import importance, relative
from yolodeploy_torch.pruning.prune import _Goal
from yolodeploy_torch.pruning.selection import keep_best
from yolodeploy_torch.pruning.shrink import shrink

pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
# Of models that differ only in how many levels they have, one with more and one with less stride is cut; YOLOv9m has the
# blocks of YOLOv9t and YOLOv9c.
CUT = (
    "yolov5n", "yolov5n-p6", "yolov8n", "yolov8n-ghost", "yolov9t", "yolov9c", "yolov9e", "yolov10n", "yolo11n", "yolo12n",
    "yolo26n", "yolo26n-p2",
)  # fmt: skip
WIDE = (
    "yolov9m",
    "yolov9c",
    "yolov9e",
)  # 20 to 58 million weights; `bench/families/every_family.py` takes them whole
each_kind = pytest.mark.parametrize("family", CUT, indirect=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def family_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Oracle, Artifact]]:
    @cache
    def made(name: str) -> tuple[Oracle, Artifact]:
        folder = tmp_path_factory.mktemp(name)
        expected = (thin if name in WIDE else oracle)(name, folder)
        return expected, load(expected.checkpoint, folder / "work")

    return made


@pytest.fixture(params=SMALLEST)
def family(
    request: pytest.FixtureRequest, family_of: Callable[[str], tuple[Oracle, Artifact]]
) -> tuple[Oracle, Artifact]:
    """What Ultralytics computes with a model, and the model as the step `load` writes it."""
    return family_of(request.param)


def test_outputs_are_those_of_ultralytics(family: tuple[Oracle, Artifact]) -> None:
    expected, loaded = family
    network = read(loaded.path)
    head = graph_in(network).head
    with torch.no_grad():
        (many,) = select(network, [head.branches["one-to-many"].output])(expected.images)
        box, score = differences(many, expected.many)
        assert (box <= 1e-3, score <= 1e-5) == (True, True), (box, score)
        info = ModelInfo.read(loaded.path)
        if expected.rows is None:
            assert (info.head, info.heads) == ("one-to-many", ("one-to-many",))
        else:
            assert (info.head, info.heads) == ("one-to-one", ("one-to-one", "one-to-many"))
            branch = head.branches["one-to-one"]
            found = select(network, [branch.corners, branch.probabilities])(expected.images)
            delta = (best_rows(*found, 300) - expected.rows).abs().amax((0, 1))
            assert delta[:4].max() <= 1e-3, delta
            assert delta[4] <= 1e-5, delta
            assert delta[5] == 0, delta
        images = expected.images[:1]
        shape = ImageShape(*images.shape[2:])
        exported = exportable(loaded.path, shape)(images)
        source = yolodeploy_torch.open(loaded, TARGET, 1)(images.numpy())
        box, score = differences(exported, torch.from_numpy(source)[:1])
        assert (box <= 0.02, score <= 1e-4) == (True, True), (box, score)


@each_kind
def test_cut_channels_are_those_that_were_silent(family: tuple[Oracle, Artifact]) -> None:
    """A model without channels computes what it computes while they are silent, in both heads."""
    expected, loaded = family
    network = read(loaded.path)
    graph = graph_in(network)
    found, kept = random_cut(graph)
    smaller = build(*shrink(graph, network.state_dict(), found, kept))
    outputs = [branch.output for branch in graph.head.branches.values()]
    models = smaller, silenced(network, found, kept)
    with torch.no_grad():
        for one, other in zip(
            *(select(model, outputs)(expected.images) for model in models), strict=True
        ):
            box, score = differences(one, other)
            assert (box <= 1e-3, score <= 1e-5) == (True, True), (box, score)


@each_kind
def test_pruned_models_have_the_operations_that_were_asked_for(
    family: tuple[Oracle, Artifact], tmp_path: Path
) -> None:
    expected, loaded = family
    network, shape = read(loaded.path), ImageShape(*expected.images.shape[2:])
    graph, state = graph_in(network), network.state_dict()
    found = channel_groups(graph)
    scores = relative(importance("magnitude", graph, found, state))
    whole = macs(merged_graph(graph), shape.height, shape.width)
    for keep in (0.7, 0.5):
        goal = _Goal.of(graph, Prune(keep=keep, scope="global"), shape)
        kept = keep_best(goal.sizes(graph, found, scores, keep), scores)
        smaller, weights = shrink(graph, state, found, kept)
        left = macs(merged_graph(smaller), shape.height, shape.width) / whole
        assert keep - 0.02 < left <= keep + 0.001, left  # the box decoding is not counted
    write(tmp_path, smaller, weights)
    with torch.no_grad():
        assert exportable(tmp_path, shape)(expected.images[:1]).isfinite().all()


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n"])
def test_kept_classes_score_as_before(
    name: str, family_of: Callable[[str], tuple[Oracle, Artifact]], tmp_path: Path
) -> None:
    expected, loaded = family_of(name)
    network = read(loaded.path)
    graph = graph_in(network)
    names = (graph.head.names[7], graph.head.names[2])
    chosen = load(expected.checkpoint, tmp_path / "some", Load(classes=names))
    assert ModelInfo.read(chosen.path).names == names
    with torch.no_grad():
        kept, whole = (model(expected.images) for model in (read(chosen.path), network))
        box, score = differences(kept, whole[:, [0, 1, 2, 3, 11, 6]])
    # With few channels PyTorch takes another routine for the last convolutions, which adds up in another order.
    assert (box, score <= 2e-7) == (0, True), score
    many = keep_classes(graph, network.state_dict(), range(16, 48))
    with torch.no_grad():
        assert torch.equal(build(*many)(expected.images)[:, 4:], whole[:, 20:52])


def test_the_other_head_on_request(
    family_of: Callable[[str], tuple[Oracle, Artifact]], tmp_path: Path
) -> None:
    expected, _ = family_of("yolo26n")
    loaded = load(expected.checkpoint, tmp_path / "work", Load(head="one-to-many"))
    assert ModelInfo.read(loaded.path).head == "one-to-many"
    with torch.no_grad():
        box, score = differences(read(loaded.path)(expected.images), expected.many)
    assert (box <= 1e-3, score <= 1e-5) == (True, True), (box, score)
