"""A detector with attention, depthwise convolutions and no distributions, through all steps, with either head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_coreml_export import context
from torch import Tensor, nn
from torch.nn import functional

import yolodeploy_coreml as plugin
from yolodeploy.backend import Artifact, ModelInfo, Target, layout_of
from yolodeploy.compress import Part, read_layers
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy_coreml.mlpackage.layers import block_of, layers
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package
from yolodeploy_coreml.weights.gptq import GroupedRounding, Moments, Rounding, to_grid
from yolodeploy_torch.model.top_k import best_rows

SIDE, NAMES, WIDTH = 96, ("a", "b", "c"), 32
STEPS = {step.name: step for step in plugin.STEPS}
PARTS: dict[str, Part] = {
    "model.0.conv": "backbone",
    "model.1.conv": "backbone",
    "model.2.attn.qkv.conv": "backbone",
    "model.2.attn.pe.conv": "backbone",
    "model.2.attn.proj.conv": "backbone",
    "model.3.one2one_cv2.0.2": "head.last",
    "model.3.one2one_cv3.0.2": "head.last",
}

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)


class Detector(nn.Module):
    """One level of stride 8; the modules bear the names of `PARTS`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shapes = (
            (3, WIDTH, 5, 4, 1),
            (WIDTH, WIDTH, 3, 2, WIDTH),
            (WIDTH, 2 * WIDTH, 1, 1, 1),
            (WIDTH, WIDTH, 3, 1, WIDTH),
            (WIDTH, WIDTH, 1, 1, 1),
            (WIDTH, 4, 1, 1, 1),
            (WIDTH, len(NAMES), 1, 1, 1),
        )
        for name, (inputs, outputs, kernel, stride, groups) in zip(PARTS, shapes, strict=True):
            conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
            nn.init.normal_(conv.weight, std=1.5 / (inputs // groups * kernel**2) ** 0.5)
            place: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, nn.Module())
                place = getattr(place, part)
            place.add_module(last, conv)
            nn.init.constant_(conv.bias, 1.5 if outputs == 4 else 0)  # type: ignore[arg-type]
        points = torch.arange(SIDE // 8) + 0.5
        y, x = torch.meshgrid(points, points, indexing="ij")
        self.register_buffer("points", torch.stack((x, y)).reshape(1, 2, -1))

    def forward(self, images: Tensor) -> Tensor:
        conv, down, qkv, pe, proj, boxes, scores = (self.get_submodule(name) for name in PARTS)
        x = functional.silu(down(functional.silu(conv(images))))
        mixed = qkv(x).reshape(1, 2, WIDTH, -1)  # two heads
        q, k, v = mixed.split((WIDTH // 4, WIDTH // 4, WIDTH // 2), 2)
        weighed = v @ ((q * 0.35).transpose(2, 3) @ k).softmax(-1).transpose(2, 3)
        values = v.reshape(1, WIDTH, SIDE // 8, SIDE // 8)
        x = x + proj(weighed.reshape(1, WIDTH, SIDE // 8, SIDE // 8) + pe(values))
        low, high = boxes(x).flatten(2).split(2, 1)
        low, high = self.points - low, self.points + high
        xywh = torch.cat(((low + high) / 2, high - low), 1) * 8
        return torch.cat((xywh, scores(x).flatten(2).sigmoid()), 1)


class Rows(nn.Module):
    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.network = detector

    def forward(self, images: Tensor) -> Tensor:
        raw = self.network(images)
        centre, half = raw[:, :2], raw[:, 2:4] / 2
        return best_rows(torch.cat((centre - half, centre + half), 1), raw[:, 4:], 300)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def export(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    from yolodeploy_coreml.export import export as module

    chosen = {"one-to-many": detector, "one-to-one": Rows(detector)}

    def exportable(folder: Path, _imgsz: object, *, rows: bool) -> nn.Module:
        assert rows
        return chosen[ModelInfo.read(folder).head]

    patch.setattr(module, "exportable", exportable)
    patch.setattr(module, "layer_parts", lambda _folder: PARTS)
    patch.setattr(module, "anchor_count", lambda _folder, _imgsz: (SIDE // 8) ** 2)
    made: dict[Any, Artifact] = {}

    def run(head: str, version: str = "18", **wanted: Any) -> Artifact:
        key = (head, version, str(wanted))
        if key not in made:
            folder = tmp_path_factory.mktemp("heads")
            heads = ("one-to-one", "one-to-many")
            ModelInfo("detect", NAMES, (8,), 1, head=head, heads=heads).write(folder)
            step = STEPS["export"]
            options = context(folder / "w", NAMES, version, SIDE)
            options = replace(options, model=replace(options.model, head=head))
            result = step.run(Artifact("yolo", folder, ""), step.params(**wanted), options)
            made[key] = Artifact("mlpackage", result, "")
        return made[key]

    yield run
    patch.undo()


class Pictures:
    """What steps ask of calibration images."""

    def __init__(self) -> None:
        noise = np.random.default_rng(0).random((4, 3, 12, 12)).repeat(8, 2).repeat(8, 3)
        self.images = [Path(__file__)] * 4
        self.arrays = (noise * 255).round().astype(np.float32) / 255

    def to_calibrate(self, _subset: object = None) -> Pictures:
        return self

    def spread(self, _count: int) -> Pictures:
        return self

    def letterboxed(self, _imgsz: object) -> Iterator[np.ndarray]:
        return iter(self.arrays[:, None])

    def __len__(self) -> int:
        return len(self.images)


IMAGES = Pictures()


def opened(artifact: Artifact) -> Any:
    return plugin.open(artifact, Target(plugin.DEVICES[0]), 1)


def rows_of(raw: np.ndarray) -> np.ndarray:
    """All pairs of an anchor and a class of one image, best first, as rows; at most the anchors."""
    scores = raw[4:].T.reshape(-1)
    order = np.argsort(-scores, kind="stable")[: raw.shape[1]]
    anchors, kinds = order // len(NAMES), order % len(NAMES)
    centre, half = raw[:2, anchors], raw[2:4, anchors] / 2
    return np.concatenate([centre - half, centre + half, [scores[order]], [kinds]]).T


def test_rows_are_the_best_of_the_source(detector: Detector, export: Any) -> None:
    artifact = export("one-to-one", "15", precision="fp32")
    predict = opened(artifact)
    assert layout_of(predict) == "rows"
    wanted = np.stack(
        [rows_of(raw) for raw in detector(torch.from_numpy(IMAGES.arrays)[:1]).numpy()]
    )
    found = predict(IMAGES.arrays[:1])
    assert found.shape == wanted.shape == (1, 144, 6)
    np.testing.assert_array_equal(found[..., 5], wanted[..., 5])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_fp16_rows_are_chosen_exactly(export: Any) -> None:
    """With whole-number indices throughout: from the values that the program itself computes."""
    from yolodeploy_coreml.runtime.predictors import ExecutorPredictor

    artifact = export("one-to-one")
    raw = ExecutorPredictor(artifact.path / PACKAGE, 1, raw=True)
    assert layout_of(raw) == "anchors"
    wanted, found = rows_of(raw(IMAGES.arrays[:1])[0]), opened(artifact)(IMAGES.arrays[:1])[0]
    np.testing.assert_array_equal(found[:, 4], wanted[:, 4])
    clear = wanted[:, 4] > wanted[-1, 4]  # equal scores may stand in any order
    found, wanted = (rows[clear][np.lexsort(rows[clear].T)] for rows in (found, wanted))
    np.testing.assert_array_equal(found[:, 4:], wanted[:, 4:])
    np.testing.assert_allclose(found[:, :4], wanted[:, :4], rtol=0, atol=1e-3)


def test_the_package_says_what_it_returns(export: Any) -> None:
    for head, shape, text, note in (
        ("one-to-one", (1, 144, 6), "Rows, best first", "needs no non-maximum suppression"),
        ("one-to-many", (1, 7, 144), "x, y, width, height", "suppression is the app's"),
    ):
        interface = plugin.describe(export(head))
        (output,) = interface.outputs
        assert (output.name, output.shape, output.dtype) == ("output0", shape, "float32")
        assert text in output.meaning
        assert note in interface.note
        assert list(interface.layers) == list(PARTS)


def test_what_a_one_to_one_head_cannot_have(export: Any) -> None:
    with pytest.raises(PlanRefused, match=r"needs no non-maximum.*model: {head: one-to-many}"):
        export("one-to-one", nms=True)
    objects = export("one-to-many", nms=True)
    np.testing.assert_allclose(
        opened(objects)(IMAGES.arrays), opened(export("one-to-many"))(IMAGES.arrays), atol=0.3
    )


def test_indices_that_sixteen_bits_cannot_hold_stay_in_thirty_two() -> None:
    from yolodeploy_coreml.export.indices import keep_indices
    from yolodeploy_coreml.toolchain import coremltools

    passes = coremltools().PassPipeline
    for anchors, classes, kept in (
        (8400, 80, True),
        (8400, 218, True),
        (8400, 219, False),
        (70000, 1, False),
    ):
        pipeline = passes.DEFAULT
        keep_indices(pipeline, anchors, classes)
        assert ("common::add_int16_cast" in pipeline.passes) is kept


@pytest.mark.parametrize(
    ("head", "name", "wanted", "form", "count", "limit"),
    [
        ("one-to-one", "palettize", {"bits": 6, "compensate": True}, "6-bit palette", 3, 0.01),
        ("one-to-one", "palettize", {"optimize": "accuracy"}, "8-bit palette", 1, 0.01),
        ("one-to-many", "quantize_weights", {}, "int8 weights", 4, 0.001),
        ("one-to-many", "sparsify", {"ratio": 0.2}, "sparse fp16", 3, 0.1),
        ("one-to-many", "quantize", {}, "int8", 7, 0.02),
        ("one-to-one", "quantize", {"min_sqnr": 25}, "int8", 2, 0.01),
    ],
)
def test_steps_behind_the_export(
    export: Any,
    tmp_path: Path,
    head: str,
    name: str,
    wanted: Any,
    form: str,
    count: int,
    limit: float,
) -> None:
    """Attention's products have no weights; depthwise convolutions are compressed where that is smaller."""
    from yolodeploy_coreml.runtime.predictors import ExecutorPredictor

    plain, step, given = export(head), STEPS[name], context(tmp_path / "w", NAMES, "18", SIDE)
    options = replace(given, data={"calibration": IMAGES}, model=replace(given.model, head=head))  # type: ignore[dict-item]
    folder = step.run(plain, step.params.model_validate(wanted), options)
    made = Artifact("mlpackage", folder, "")
    assert read_layers(made.path) == PARTS
    forms = plugin.describe(made).layers
    assert list(forms) == list(PARTS)
    assert sum(form in stored for stored in forms.values()) >= count
    outputs = [
        ExecutorPredictor(a.path / PACKAGE, 1, raw=True)(IMAGES.arrays) for a in (plain, made)
    ]
    assert 0 < output_noise(*outputs) < limit
    assert opened(made)(IMAGES.arrays).shape == opened(plain)(IMAGES.arrays).shape


def test_a_convolution_without_a_name_is_refused(export: Any) -> None:
    block = block_of(read_package(export("one-to-one").path / PACKAGE).spec)
    assert [(layer.name, layer.part) for layer in layers(block, PARTS)] == list(PARTS.items())
    few = {name: part for name, part in PARTS.items() if "pe" not in name}
    with pytest.raises(StepFailed, match=r"attn_pe_conv_weight.*no layer that layers\.json names"):
        layers(block, few)


def test_groups_are_rounded_each_by_its_own_inputs() -> None:
    """With one group as ever; with several, better than without a look at the others' errors."""
    torch.manual_seed(0)
    mixing = torch.randn(4, 9, 9) / 3
    moments = Moments(mixing @ mixing.mT, torch.zeros(4, 9), torch.rand(8))
    weight = torch.randn(8, 9)
    snap = to_grid(torch.full((8, 9), 0.5), torch.zeros(8, 9), 4)
    grouped = GroupedRounding(weight, moments)
    nearest = torch.stack([snap(column, weight[:, column]) for column in range(9)], 1)
    solved = grouped.solve(snap)
    assert torch.equal(solved, (solved / 0.5).round() * 0.5)
    assert grouped.noise(solved) < 0.7 * grouped.noise(nearest)
    alone = [
        Rounding(
            weight[2 * g : 2 * g + 2],
            Moments(moments.second[g], moments.mean[g], moments.gain[2 * g : 2 * g + 2]),
        )
        for g in range(4)
    ]
    halves = solved.split(2)
    assert grouped.noise(solved) == pytest.approx(
        sum(a.noise(h) for a, h in zip(alone, halves, strict=True)), rel=1e-4
    )
    one = Moments(moments.second[:1], torch.randn(1, 9) / 9, torch.rand(8))
    flat = Rounding(weight, Moments(one.second[0], one.mean[0], one.gain))
    single = GroupedRounding(weight, one)
    torch.testing.assert_close(single.solve(snap), flat.solve(snap))
    torch.testing.assert_close(single.importance(), flat.importance())
    torch.testing.assert_close(single.shift(nearest), flat.shift(nearest))
