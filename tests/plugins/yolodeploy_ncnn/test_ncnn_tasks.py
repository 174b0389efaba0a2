"""Models for masks, keypoints, rotated boxes and classes in ncnn: both forms of their heads, names, int8, codebooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import TASKS, narrow, task_differences
from numpy.typing import NDArray
from torch_support import ROOT, context, load

import yolodeploy_ncnn as plugin
import yolodeploy_torch
from yolodeploy.backend import OUTPUT, PROTOTYPES, Artifact, Load, ModelInfo, Target, named_outputs
from yolodeploy.compress import read_layers
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import task_of
from yolodeploy_ncnn import model
from yolodeploy_ncnn.decode import FEATURE_MASK, NO_FP16
from yolodeploy_ncnn.param_file import PARAM_FILE
from yolodeploy_ncnn.runner import runner_layers
from yolodeploy_ncnn.runtime import NcnnPredictor
from yolodeploy_torch.model import layer_parts

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "ncnn is installed"
)
SIZE = (64, 96)
TARGET = Target(next(device for device in plugin.DEVICES if device.name == "pixel-8"))
EXPORT, W8, QUANTIZE = plugin.STEPS
MEANINGS = {
    "segment": "a score per class, then the coefficients of the mask",
    "pose": "a score per class, then per keypoint x, y in pixels, visibility in 0..1",
    "obb": "a score per class, then the angle in radians",
}


def exported(source: Artifact, work: Path, size: tuple[int, int]) -> Artifact:
    given = replace(
        context(work), imgsz=ImageShape(*size), target=TARGET, model=ModelInfo.read(source.path)
    )
    return Artifact("ncnn", EXPORT.run(source, EXPORT.params(precision="fp32"), given), "")


def decoding_reads_only_fp32(artifact: Artifact) -> int:
    """A masked layer that reads a blob of fp16 would take it for fp32; returns the number of casts."""
    graph = model.read(artifact).graph
    assert {layer.type for layer in graph.layers} <= runner_layers()
    masked = [layer for layer in graph.layers if layer.params.get(FEATURE_MASK) == NO_FP16]
    fed = {graph.producers[blob].name for layer in masked for blob in layer.inputs}
    casts = {layer.name for layer in graph.layers if layer.type == "Dropout"}
    assert fed - {layer.name for layer in masked} == casts
    assert graph.producers[graph.output] in masked
    return len(casts)


@pytest.mark.parametrize("name", ["yolo26n-seg", "yolo26n-pose", "yolov8n-obb"])
def test_what_a_head_gives(name: str, tmp_path: Path) -> None:
    """Of YOLO26 the one-to-one head, all anchors of it; of others the only one."""
    pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
    given, task = narrow(name, tmp_path, SIZE), TASKS[name.rpartition("-")[2]]
    head = "one-to-many" if given.rows is None else "one-to-one"
    source = load(given.checkpoint, tmp_path / "load", Load(head=head))
    artifact = exported(source, tmp_path / "export", SIZE)
    parts = layer_parts(source.path)
    assert read_layers(artifact.path) == parts
    interface = plugin.describe(artifact)
    assert interface.layers.keys() == parts.keys()
    assert interface.outputs[0].meaning.endswith(MEANINGS[task])
    assert decoding_reads_only_fp32(artifact) == 3  # boxes, scores and what the task adds
    names = task_of(ModelInfo.read(source.path)).outputs
    images = given.images.numpy()
    found = named_outputs(plugin.open(artifact, TARGET, 1)(images), names)
    wanted = named_outputs(yolodeploy_torch.open(source, TARGET, 1)(images), names)
    one, other = (torch.from_numpy(each[OUTPUT]) for each in (found, wanted))
    pixels, rest = task_differences(one, other, task)
    assert (pixels <= 0.02, rest <= 1e-4) == (True, True), (pixels, rest)
    if task == "segment":
        peak = np.abs(wanted[PROTOTYPES]).max()
        assert np.abs(found[PROTOTYPES] - wanted[PROTOTYPES]).max() <= 1e-4 * peak
        assert [tensor.shape for tensor in interface.outputs] == [(39, 126), (32, 16, 24)]
        small = compressed(artifact, tmp_path / "w8")
        upsample = next(n for n in parts if n.endswith("proto.upsample"))
        assert plugin.describe(small).layers[upsample] == "8-bit codebook"


def compressed(artifact: Artifact, work: Path) -> Artifact:
    return Artifact("ncnn", W8.run(artifact, W8.params(), context(work)), "")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, ModelInfo]:
    work = tmp_path_factory.mktemp("classifier")
    source = load(ROOT / "models" / "shapes-yolo11-cls.pt", work / "load")
    return exported(source, work / "export", (64, 64)), ModelInfo.read(source.path)


def test_a_classifier_scores_in_fp32(classifier: tuple[Artifact, ModelInfo]) -> None:
    artifact, info = classifier
    assert decoding_reads_only_fp32(artifact) == 1  # in front of the pooling
    masked = [
        layer.type
        for layer in model.read(artifact).graph.layers
        if layer.params.get(FEATURE_MASK) == NO_FP16
    ]
    assert masked == ["Pooling", "InnerProduct", "Softmax"]
    interface = plugin.describe(artifact)
    (output,) = interface.outputs
    assert (output.shape, output.meaning) == (
        (len(info.names),), "a probability per class; they sum to 1",
    )  # fmt: skip
    assert "cropped" in interface.inputs[0].meaning
    inspected = plugin.inspect(artifact.path / PARAM_FILE)
    assert inspected is not None
    assert inspected.parameters == sum(block.count for block in model.read(artifact).blocks)
    assert inspected.notes[0] == "Its task is `classify`."
    assert [part.part for part in inspected.parts] == ["backbone", "head", "head.last"]


def test_the_matrix_of_a_classifier_computes_in_int8_what_the_file_says(
    classifier: tuple[Artifact, ModelInfo], tmp_path: Path
) -> None:
    exact, info = classifier
    name = next(n for n, part in read_layers(exact.path).items() if part == "head.last")
    view = load_view(ROOT / "examples/shapes/data-classify", View(split="train", images=4), 0,
                     task="classify")  # fmt: skip
    given = replace(
        context(tmp_path / "int8"),
        imgsz=info.images(ImageShape.square(64)),
        model=info,
        data={"calibration": view},
    )
    params = QUANTIZE.params(min_sqnr=None)
    loaded = model.read(Artifact("ncnn", QUANTIZE.run(exact, params, given), ""))
    assert set(loaded.forms().values()) == {"int8"}
    kernel, bias, scales, (scale,) = (b.floats(loaded.data) for b in loaded.blocks_of(name))
    layer = loaded.kernels[name].layer
    predict = NcnnPredictor(loaded.folder, 1)
    image: NDArray[np.float32] = next(iter(view.letterboxed(given.imgsz)))[0]
    blobs = dict(predict.blobs(image, [layer.inputs[0], layer.outputs[0], loaded.graph.output]))
    read, got, shares = blobs.values()
    whole = np.clip(np.round(read * scale), -127, 127)
    sums = kernel.reshape(len(bias), -1) @ whole
    np.testing.assert_allclose(got, sums / (scales * scale) + bias, atol=2e-4 * np.abs(got).max())
    plain = NcnnPredictor(exact.path, 1)(image[None])[0]  # type: ignore[index]
    assert np.abs(shares - plain).max() < 0.05
    assert abs(shares.sum() - 1) < 1e-5
