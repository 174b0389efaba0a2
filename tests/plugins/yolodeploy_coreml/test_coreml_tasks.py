"""Models for masks, keypoints, rotated boxes and classes as Core ML packages: rows, compression, and what Vision reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from families import TASKS, Oracle, narrow, task_differences
from torch_support import ROOT, context, load

import yolodeploy_coreml as plugin
import yolodeploy_torch
from yolodeploy.backend import (
    OUTPUT,
    PROTOTYPES,
    Artifact,
    Load,
    ModelInfo,
    Target,
    layout_of,
    named_outputs,
)
from yolodeploy.compress import read_layers
from yolodeploy.errors import PlanRefused
from yolodeploy.system import ImageShape
from yolodeploy.tasks import task_of
from yolodeploy.tasks.detection.rows import pair_rows
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package
from yolodeploy_coreml.params import CoreMLExport
from yolodeploy_torch.model import layer_parts

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)
SIZE = (64, 96)
STEPS = {step.name: step for step in plugin.STEPS}
TARGET = Target(next(device for device in plugin.DEVICES if device.name == "iphone-15-pro"), "18")
SAID = {
    "segment": "Rows, best first: left, top, right, bottom in pixels, score, class index, then the coefficients of the mask",
    "pose": "Rows, best first: left, top, right, bottom in pixels, score, class index, then per keypoint x, y in pixels, "
    "visibility in 0..1",
    "obb": "Rows, best first: x, y, width, height in pixels, score, class index, then the angle in radians",
}


class Pictures:
    """What steps ask of calibration images."""

    def __init__(self, arrays: Any) -> None:
        self.arrays = np.round(arrays * 255).astype(np.float32) / 255
        self.images = [Path(__file__)] * len(arrays)

    def to_calibrate(self, _subset: object = None) -> Pictures:
        return self

    def spread(self, _count: int) -> Pictures:
        return self

    def letterboxed(self, _imgsz: object) -> Iterator[Any]:
        return iter(self.arrays[:, None])

    def __len__(self) -> int:
        return len(self.arrays)


def run(name: str, source: Artifact, info: ModelInfo, work: Path, view: Pictures, **wanted: Any) -> Artifact:  # fmt: skip
    step, (height, width) = STEPS[name], view.arrays.shape[2:]
    given = replace(
        context(work),
        imgsz=ImageShape(height, width),
        target=TARGET,
        model=info,
        data={"calibration": view},  # type: ignore[dict-item]
    )
    folder = step.run(source, step.params.model_validate(wanted), given)
    return Artifact("mlpackage", folder, "")


def opened(artifact: Artifact) -> Any:
    return plugin.open(artifact, TARGET, 1)


@pytest.mark.parametrize("name", ["yolo26n-seg", "yolo26n-pose", "yolo26n-obb"])
def test_rows_of_a_one_to_one_head(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
    given, task = narrow(name, tmp_path, SIZE), TASKS[name.rpartition("-")[2]]
    source = load(given.checkpoint, tmp_path / "load", Load(head="one-to-one"))
    info, view = ModelInfo.read(source.path), Pictures(given.images.numpy())
    artifact = run("export", source, info, tmp_path / "export", view, precision="fp32")
    check_rows(artifact, given, task)
    interface = plugin.describe(artifact)
    assert interface.outputs[0].meaning == SAID[task]
    assert interface.layers.keys() == layer_parts(source.path).keys()
    inspected = plugin.inspect(artifact.path)
    assert inspected is not None
    assert inspected.notes[0] == f"Its task is `{task}`."
    macs = yolodeploy_torch.count(source, ImageShape(*SIZE)).macs
    assert inspected.macs == pytest.approx(
        macs, rel=2e-3
    )  # the products of attention have no kernels
    assert {part.part for part in inspected.parts} == set(layer_parts(source.path).values())
    check_raw(artifact, source, info, view)


def check_rows(artifact: Artifact, given: Oracle, task: str) -> None:
    """The rows are those of Ultralytics; which of two nearly equal scores goes first depends on the processor."""
    predict = opened(artifact)
    assert layout_of(predict) == "rows"
    found = predict(given.images.numpy())
    rows = found[OUTPUT] if task == "segment" else found
    assert given.rows is not None
    ours, theirs = rows[0], given.rows[0].numpy()
    paired = pair_rows(theirs[:, :6], ours[:, :6])
    assert len(paired.first) >= 0.95 * len(theirs)
    both = theirs[paired.first][None], ours[paired.second][None]
    pixels, rest = task_differences(*map(torch.from_numpy, both), task, rows=True)
    assert (pixels <= 0.02, rest <= 1e-4) == (True, True), (pixels, rest)
    if task == "segment":
        assert given.prototypes is not None
        prototypes = given.prototypes.numpy()
        assert np.abs(found[PROTOTYPES] - prototypes).max() <= 1e-4 * np.abs(prototypes).max()


def check_raw(artifact: Artifact, source: Artifact, info: ModelInfo, view: Pictures) -> None:
    """What rows are chosen from: all anchors, as the source gives them."""
    names = task_of(info).outputs
    found, wanted = (
        named_outputs(predict(view.arrays), names)[OUTPUT]
        for predict in (raw(artifact), yolodeploy_torch.open(source, TARGET, 1))
    )
    pixels, rest = task_differences(torch.from_numpy(found), torch.from_numpy(wanted), info.task)
    peak = (
        np.abs(wanted[:, 4:]).max() if info.task == "obb" else 1
    )  # several turns, of random weights
    assert (pixels <= 0.02, rest <= 1e-4 * peak) == (True, True), (pixels, rest, peak)


def raw(artifact: Artifact) -> Any:
    from yolodeploy_coreml.runtime.predictors import ExecutorPredictor

    return ExecutorPredictor(artifact.path / PACKAGE, 1, raw=True)


def test_steps_behind_the_export(tmp_path: Path) -> None:
    """On trained weights: rounding to 8 bits turns those of random ones into others."""
    source = load(ROOT / "models" / "shapes-yolo11-seg.pt", tmp_path / "load")
    info = ModelInfo.read(source.path)
    files = sorted((ROOT / "examples/shapes/data/images/val").glob("*.jpg"))[:2]
    pixels = [cv2.resize(cv2.imread(str(file))[..., ::-1], (96, 96)) for file in files]
    view = Pictures(np.stack(pixels).transpose(0, 3, 1, 2) / 255)
    artifact = run("export", source, info, tmp_path / "export", view)
    made = run("quantize", artifact, info, tmp_path / "quantize", view)
    check_noise(artifact, made, info, view, "int8", 0.02)
    made = run("quantize_weights", artifact, info, tmp_path / "small", view, compensate=True)
    check_noise(artifact, made, info, view, "int8 weights", 0.002)


def check_noise(
    plain: Artifact, made: Artifact, info: ModelInfo, view: Pictures, form: str, most: float
) -> None:
    """Most layers have the new form, and transposed convolutions and decoding their own; the outputs stay close."""
    forms, parts = plugin.describe(made).layers, read_layers(made.path)
    kept = {name for name, stored in forms.items() if form not in stored}
    assert len(kept) < 0.3 * len(forms)
    assert {n for n, part in parts.items() if part == "dfl" or n.endswith("upsample")} <= kept
    task = task_of(info)
    outputs = []
    for artifact in (plain, made):
        found = named_outputs(raw(artifact)(view.arrays), task.outputs)
        outputs.append([{n: v[i] for n, v in found.items()} for i in range(len(view))])
    assert 0 < task.noise(*outputs, "anchors") < most


def test_a_classifier_is_what_vision_takes(tmp_path: Path) -> None:
    source = load(ROOT / "models" / "shapes-yolo11-cls.pt", tmp_path / "load")
    info = ModelInfo.read(source.path)
    with pytest.raises(PlanRefused, match=r"`nms: true`.* for `classify` has no boxes"):
        run("export", source, info, tmp_path / "nms", Pictures(np.zeros((1, 3, 64, 64))), nms=True)
    noise = np.random.default_rng(0).random((2, 3, 8, 8)).repeat(8, 2).repeat(8, 3)
    view = Pictures(noise)
    artifact = run("export", source, info, tmp_path / "export", view)
    description = read_package(artifact.path / PACKAGE).spec.description
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "classLabel_probs"
    kinds = {each.name: each.type.WhichOneof("Type") for each in description.output}
    assert kinds == {"classLabel": "stringType", "classLabel_probs": "dictionaryType"}
    interface = plugin.describe(artifact)
    assert "VNClassificationObservation" in interface.note
    assert [(each.name, each.shape) for each in interface.outputs] == [
        ("classLabel_probs", (len(info.names),)),
        ("classLabel", ()),
    ]
    wanted = yolodeploy_torch.open(source, TARGET, 1)(view.arrays)
    assert isinstance(wanted, np.ndarray)
    np.testing.assert_allclose(opened(artifact)(view.arrays), wanted, atol=5e-3)
    for step, form in (("quantize", "int8"), ("palettize", "8-bit palette")):
        made = run(step, artifact, info, tmp_path / step, view)
        last = next(n for n, part in read_layers(made.path).items() if part == "head.last")
        assert plugin.describe(made).layers[last] in (form, "fp16")
        assert form in plugin.describe(made).layers.values()
        assert np.abs(opened(made)(view.arrays) - wanted).max() < 0.1


def test_probabilities_come_in_the_order_of_the_classes() -> None:
    """Core ML returns a dictionary; a name that an earlier class has got its index."""
    from yolodeploy_coreml.export.outputs import unique_labels
    from yolodeploy_coreml.runtime import Head

    assert unique_labels(["crane", "crow", "crane"]) == ["crane", "crow", "crane (2)"]
    assert unique_labels(["a", "a", "a (1)"]) == ["a", "a (1) (1)", "a (1)"]
    head = Head.__new__(Head)
    head._labels, head.reads = ["crane", "crow", "crane (2)"], ("output0",)
    given = {"classLabel": "crow", "classLabel_probs": {"crane (2)": 0.2, "crow": 0.7, "crane": 0.1}}  # fmt: skip
    np.testing.assert_allclose(head.tensors(given)["output0"], [[0.1, 0.7, 0.2]])


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_an_error_counts_by_what_it_does_to_a_finding(task: str) -> None:
    """A twentieth of a box's side counts once, as does a twentieth of a mask's pixels."""
    from yolodeploy_coreml.weights.features import noise_features

    extras = {"segment": 1, "pose": 4, "obb": 1}[task]
    raw = torch.zeros(1, 4 + 1 + extras, 3)
    raw[0, :4, 0], raw[0, 4, 0] = torch.tensor([40.0, 40, 40, 40]), 0.64
    head: Any = SimpleNamespace(
        task=task, classes=1, kpt_shape=(2, 2), size=torch.tensor([80, 80, 80, 80])
    )
    found = {OUTPUT: raw}
    if task == "segment":
        raw[0, 5, 0] = 100
        found[PROTOTYPES] = torch.full((1, 1, 20, 20), -1.0)
    before, detections = noise_features(head, found)
    changed = {name: value.clone() for name, value in found.items()}
    if task == "segment":  # 5 of the 100 pixels in the box, and others outside it
        changed[PROTOTYPES][0, 0, 8, 5:10] = 1
        changed[PROTOTYPES][0, 0, :5] = 1
    elif task == "pose":
        changed[OUTPUT][0, 5:, 0] += 0.05 * 40
    else:
        changed[OUTPUT][0, :2, 0] += 0.05 * 40
    after, _ = noise_features(head, changed)
    assert detections == pytest.approx(0.64)
    count = 0.05 / 0.05**2 if task == "segment" else 1
    assert float((after - before).square().sum()) == pytest.approx(0.64 * count, rel=1e-4)


def test_suppression_is_for_plain_detectors() -> None:
    params = CoreMLExport(nms=True)
    export = STEPS["export"]
    assert export.fits is not None
    assert export.fits(params, ModelInfo("detect", ("a",), (8,), 1)) is None
    assert export.fits(CoreMLExport(), ModelInfo("obb", ("a",), (8,), 1)) is None
    reason = export.fits(params, ModelInfo("obb", ("a",), (8,), 1))
    assert reason is not None
    assert "returns more than boxes" in reason
