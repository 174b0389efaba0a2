"""The parts of a model read off its table, and the selectors of recipes."""

from __future__ import annotations

from collections import Counter

import pytest
from torch import nn
from torch_support import COCO_MODEL, DEMO, load

from yolodeploy.errors import PlanRefused
from yolodeploy_torch import folder
from yolodeploy_torch.modules import Yolo
from yolodeploy_torch.structure import PARTS, choose, convolutions


@pytest.fixture(scope="module", params=[DEMO, COCO_MODEL], ids=["demo", "coco"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Yolo:
    if not request.param.is_file():
        pytest.skip(f"{request.param} is missing; set YOLODEPLOY_TEST_MODEL or YOLODEPLOY_COCO")
    return folder.read(load(request.param, tmp_path_factory.mktemp("load") / "work").path)


def test_every_convolution_has_a_part_and_no_other(model: Yolo) -> None:
    modules = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert sorted(convolutions(model.arch)) == sorted(modules)


def test_parts_of_a_yolov8n(model: Yolo) -> None:
    parts = convolutions(model.arch)
    counts = {"backbone": 27, "neck": 18, "head": 12, "head.last": 6, "dfl": 1}
    assert Counter(parts.values()) == counts
    assert parts["model.9.cv2.conv"] == "backbone"
    assert parts["model.12.cv1.conv"] == "neck"
    assert parts["model.22.cv3.1.1.conv"] == "head"
    assert parts["model.22.cv2.2.2"] == "head.last"


def test_selectors(model: Yolo) -> None:
    parts = convolutions(model.arch)
    assert choose(["dfl", "decode"], parts, "keep_float") == {"model.22.dfl.conv"}
    assert len(choose(["head"], parts, "keep_float")) == 18
    assert len(choose(["head.last"], parts, "keep_float")) == 6
    block = {"model.2.cv1.conv", "model.2.cv2.conv", *_block("model.2.m.0")}
    assert choose(["model.2.*"], parts, "keep_float") == block
    assert choose(["model.?.conv", "model.1?.conv"], parts, "keep_float") == {
        f"model.{row}.conv" for row in (0, 1, 3, 5, 7, 16, 19)
    }
    assert choose([], parts, "keep_float") == frozenset()


def _block(name: str) -> set[str]:
    return {f"{name}.cv1.conv", f"{name}.cv2.conv"}


def test_a_selector_without_a_match_names_what_is_allowed(model: Yolo) -> None:
    parts = convolutions(model.arch)
    with pytest.raises(PlanRefused) as caught:
        choose(["dfl", "heads"], parts, "keep_float")
    assert str(caught.value) == (
        "`keep_float: heads` matches no layer. Perhaps you meant `head`. Allowed are backbone, neck, "
        "head, head.last, dfl, decode, and the names of the 64 convolutions, from `model.0.conv` to "
        "`model.22.dfl.conv`, with * and ?."
    )
    with pytest.raises(PlanRefused, match=r"`keep_float: model\.23\.\*` matches no layer"):
        choose(["model.23.*"], parts, "keep_float")


def test_order_of_execution_and_the_vocabulary(model: Yolo) -> None:
    names = list(convolutions(model.arch))
    assert names[:3] == ["model.0.conv", "model.1.conv", "model.2.cv1.conv"]
    assert set(convolutions(model.arch).values()) | {"decode"} == set(PARTS)
