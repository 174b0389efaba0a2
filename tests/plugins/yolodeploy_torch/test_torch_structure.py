"""The graph of a model: its parts, the selectors of recipes, and what does not fit together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from torch import nn
from torch.fx import GraphModule
from torch_support import COCO_MODEL, DEMO, load

from yolodeploy.compress.layers import PARTS, choose
from yolodeploy.errors import PlanRefused
from yolodeploy_torch.graph import Graph, Unsupported, graph_in
from yolodeploy_torch.model import parts, read


@pytest.fixture(scope="module", params=[DEMO, COCO_MODEL], ids=["demo", "coco"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GraphModule:
    if not request.param.is_file():
        pytest.skip(f"{request.param} is missing; set YOLODEPLOY_SHARED")
    return read(load(request.param, tmp_path_factory.mktemp("load") / "work").path)


@pytest.fixture(scope="module")
def graph(model: GraphModule) -> Graph:
    return graph_in(model)


def test_every_convolution_has_a_part_and_no_other(model: GraphModule, graph: Graph) -> None:
    modules = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert sorted(parts(graph)) == sorted(modules)


def test_parts_of_a_yolov8n(graph: Graph) -> None:
    found = parts(graph)
    counts = {"backbone": 27, "neck": 18, "head": 12, "head.last": 6, "dfl": 1}
    assert Counter(found.values()) == counts
    assert found["model.9.cv2.conv"] == "backbone"
    assert found["model.12.cv1.conv"] == "neck"
    assert found["model.22.cv3.1.1.conv"] == "head"
    assert found["model.22.cv2.2.2"] == "head.last"


def test_selectors(graph: Graph) -> None:
    found = parts(graph)
    assert choose(["dfl", "decode"], found, "keep_float") == {"model.22.dfl.conv"}
    assert len(choose(["head"], found, "keep_float")) == 18
    assert len(choose(["head.last"], found, "keep_float")) == 6
    block = {"model.2.cv1.conv", "model.2.cv2.conv", *_block("model.2.m.0")}
    assert choose(["model.2.*"], found, "keep_float") == block
    assert choose(["model.?.conv", "model.1?.conv"], found, "keep_float") == {
        f"model.{row}.conv" for row in (0, 1, 3, 5, 7, 16, 19)
    }
    assert choose([], found, "keep_float") == frozenset()


def _block(name: str) -> set[str]:
    return {f"{name}.cv1.conv", f"{name}.cv2.conv"}


def test_a_selector_without_a_match_names_what_is_allowed(graph: Graph) -> None:
    found = parts(graph)
    with pytest.raises(PlanRefused) as caught:
        choose(["dfl", "heads"], found, "keep_float")
    assert str(caught.value) == (
        "`keep_float: heads` matches no layer. Perhaps you meant `head`. Allowed are backbone, neck, "
        "head, head.last, dfl, decode, and the names of the 64 convolutions, from `model.0.conv` to "
        "`model.22.dfl.conv`, with * and ?."
    )
    with pytest.raises(PlanRefused, match=r"`keep_float: model\.23\.\*` matches no layer"):
        choose(["model.23.*"], found, "keep_float")


def test_order_of_execution_and_the_vocabulary(graph: Graph) -> None:
    names = list(parts(graph))
    assert names[:3] == ["model.0.conv", "model.1.conv", "model.2.cv1.conv"]
    of_other_tasks = {"head.proto", "head.keypoints", "head.angle"}
    assert set(parts(graph).values()) | {"decode"} == set(PARTS) - of_other_tasks


NAMES = {
    "first": "model.0.conv",
    "unit": "model.2.cv1.conv",
    "join": "model.11",
    "flat": "model.22.boxes.0",
    "pool": "model.9.m.0",
    "shares": "model.22.shares",
}
SPOILED: dict[str, tuple[str, dict[str, Any], str]] = {
    "later": (
        "unit",
        {"inputs": ("model.22.output",)},
        r"its layer model\.2\.cv1\.conv reads model\.22\.output, which nothing makes before it",
    ),
    "twofold": ("unit", {"name": "model.1.conv"}, r"its layer model\.1\.conv is twofold"),
    "two": (
        "unit",
        {"inputs": ("model.0.act", "model.1.act")},
        r"model\.2\.cv1\.conv \(conv\) does not fit: it reads 2 values, and one is allowed",
    ),
    "channels": ("unit", {"channels": (33, 32)}, "a convolution takes 33 channels, but 32 arrive"),
    "groups": ("first", {"groups": 3}, "3 channels to 16 do not divide into 3 groups"),
    "sizes": (
        "join",
        {"inputs": ("model.10", "model.4.cv2.act")},
        r"model\.11 \(concat\) does not fit: values of shapes .* are joined",
    ),
    "numbers": ("flat", {"shape": (0, 7, -1)}, "is arranged as"),
    "two rests": ("flat", {"shape": (0, -1, -1)}, "is arranged as"),
    "axis": ("shares", {"axis": 5}, "a value of 4 axes has no axis 5"),
    "margins": ("pool", {"padding": (3, 3)}, r"windows of \(5, 5\) have margins of \(3, 3\)"),
    "huge": ("first", {"channels": (3, 65_536), "stride": (1, 1)}, "too large a map"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_graph_that_does_not_fit_together_is_refused(case: str, graph: Graph) -> None:
    what, changes, message = SPOILED[case]
    nodes = tuple(
        node.model_copy(update=changes) if node.name == NAMES[what] else node
        for node in graph.nodes
    )
    spoiled = Graph.model_validate_json(graph.model_copy(update={"nodes": nodes}).model_dump_json())
    with pytest.raises(Unsupported, match=message):
        spoiled.check()


def test_a_head_that_does_not_fit_is_refused(graph: Graph) -> None:
    def refused(**changes: Any) -> str:
        with pytest.raises(Unsupported) as caught:
            graph.model_copy(update={"head": graph.head.model_copy(update=changes)}).check()
        return str(caught.value)

    branch = graph.branch
    assert "its head needs one map of features per level" in refused(
        features=graph.head.features[:2]
    )
    assert "as those of stride 4" in refused(strides=(4, 8, 16))
    assert "its head reads boxes of shape (1, 64" in refused(reg_max=8)
    assert "its head reads scores" in refused(names=("one",))
    other = branch.model_copy(update={"corners": branch.output})
    assert "no corners of boxes" in refused(branches={"one-to-many": other})
    assert "has no one-to-many head" in refused(branches={"one-to-one": branch})


def test_joins_of_joins_take_time_only_for_what_they_join(graph: Graph) -> None:
    """A chain of thousands of joins, each of one map, is followed at once."""
    at = next(n for n, node in enumerate(graph.nodes) if node.name == "model.11")
    join = graph.nodes[at]
    chain = [
        join.model_copy(
            update={"name": f"join.{n}", "inputs": (f"join.{n - 1}" if n else "model.10",)}
        )
        for n in range(5000)
    ]
    last = join.model_copy(update={"inputs": ("join.4999", join.inputs[1])})
    longer = graph.replaced((*graph.nodes[:at], *chain, last, *graph.nodes[at + 1 :]), {})
    longer.check()
    assert parts(longer) == parts(graph)
