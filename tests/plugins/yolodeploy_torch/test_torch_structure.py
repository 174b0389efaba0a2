"""The parts of a model read off its table, and the selectors of recipes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from torch import nn
from torch_support import COCO_MODEL, DEMO, load

from yolodeploy.compress.layers import PARTS, choose
from yolodeploy.errors import PlanRefused
from yolodeploy_torch.model.arch import Arch, Unsupported
from yolodeploy_torch.model.artifact import read
from yolodeploy_torch.model.layers import convolutions, structure
from yolodeploy_torch.model.modules import Yolo


@pytest.fixture(scope="module", params=[DEMO, COCO_MODEL], ids=["demo", "coco"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Yolo:
    if not request.param.is_file():
        pytest.skip(f"{request.param} is missing; set YOLODEPLOY_SHARED")
    return read(load(request.param, tmp_path_factory.mktemp("load") / "work").path)


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


def test_a_table_that_does_not_fit_together_is_refused(model: Yolo) -> None:
    def refused(row: int, changes: dict[str, Any]) -> str:
        table = model.arch.model_dump(by_alias=True)
        table["layers"][row].update(changes)
        with pytest.raises(Unsupported) as caught:
            structure(Arch.model_validate(table))
        return str(caught.value)

    head = model.arch.head.model_dump(by_alias=True)
    assert refused(2, {"from": (2,)}) == (
        "layer 2 (c2f) does not fit: it reads the layers (2,), which do not come before it"
    )
    assert refused(2, {"from": (0, 1)}) == (
        "layer 2 (c2f) does not fit: it reads the layers (0, 1), and one is allowed"
    )
    assert refused(22, {"boxes": head["boxes"][:2]}) == (
        "layer 22 (detect) does not fit: it needs one branch for boxes and one for scores per level"
    )
    assert "layer 11 (concat) does not fit: maps of strides [16, 8]" in refused(
        11, {"from": (10, 4)}
    )
    middle = model.arch.model_copy(
        update={"layers": (*model.arch.layers[:3], model.arch.head, *model.arch.layers[3:])}
    )
    with pytest.raises(Unsupported, match=r"layer 3 \(detect\) does not fit"):
        structure(middle)


def test_joins_of_joins_take_time_only_for_what_they_join(model: Yolo) -> None:
    """A chain of thousands of joins, each of one map, is followed at once."""
    table = model.arch.model_dump(by_alias=True)
    chain = [{"kind": "concat", "from": (row,)} for row in range(1, 5001)]
    later = [
        {**layer, "from": tuple(row + 5000 if row > 1 else 5001 for row in layer["from"])}
        for layer in table["layers"][2:]
    ]
    longer = Arch.model_validate({**table, "layers": [*table["layers"][:2], *chain, *later]})
    found, plain = structure(longer), structure(model.arch)
    assert found.macs(found.sizes, 640) == plain.macs(plain.sizes, 640)
