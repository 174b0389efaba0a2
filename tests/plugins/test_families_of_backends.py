"""Models of several families in NCNN, ONNX Runtime and OpenVINO: the checkpoint's names, and the output of the source.

`bench/families/every_family.py` prints the same for every family.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from families import Oracle, differences, oracle
from real_model import RealModel
from torch_support import context, load

import yolodeploy_ncnn
import yolodeploy_onnxruntime
import yolodeploy_openvino
import yolodeploy_torch
from yolodeploy.backend import Artifact, Load, Target, layout_of
from yolodeploy.compress import read_layers
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe import Head, View
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.rows import row_differences
from yolodeploy_ncnn import model
from yolodeploy_ncnn.decode import FEATURE_MASK, NO_FP16
from yolodeploy_ncnn.runner import runner_layers
from yolodeploy_ncnn.runtime import NcnnPredictor
from yolodeploy_torch.model import layer_parts

pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")

PLUGINS = (yolodeploy_ncnn, yolodeploy_onnxruntime, yolodeploy_openvino)


def exported(plugin: ModuleType, source: Artifact, given: Oracle, work: Path) -> Artifact:
    """The fp32 export for images of the oracle's size."""
    size = ImageShape(*given.images.shape[2:])
    prepared = replace(context(work), imgsz=size, target=Target(plugin.DEVICES[0]))
    step = plugin.STEPS[0]
    return Artifact(plugin.NAME, step.run(source, step.params(precision="fp32"), prepared), "")


def decoding_reads_only_fp32(artifact: Artifact) -> None:
    """A masked layer that reads a blob of fp16 would take it for fp32: on Arm that ends in the heap."""
    graph = model.read(artifact).graph
    assert {layer.type for layer in graph.layers} <= runner_layers()
    masked = [layer for layer in graph.layers if layer.params.get(FEATURE_MASK) == NO_FP16]
    fed = {graph.producers[blob].name for layer in masked for blob in layer.inputs}
    casts = {layer.name for layer in graph.layers if layer.type == "Dropout"}
    assert len(casts) == 2
    assert fed - {layer.name for layer in masked} == casts
    assert graph.producers[graph.output] in masked


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    for plugin in PLUGINS:
        if reason := plugin.problem():
            pytest.skip(reason)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """A model with attention, depthwise convolutions and both heads, without distributions."""
    return oracle("yolo26n", tmp_path_factory.mktemp("oracle"))


@pytest.mark.parametrize(
    ("plugin", "head"),
    [
        (yolodeploy_ncnn, "one-to-many"),
        (yolodeploy_ncnn, "one-to-one"),
        (yolodeploy_onnxruntime, "one-to-one"),
        (yolodeploy_openvino, "one-to-one"),
    ],
)
def test_names_and_output_of_a_head(
    plugin: ModuleType, head: Head, given: Oracle, tmp_path: Path
) -> None:
    source = load(given.checkpoint, tmp_path / "load", Load(head=head))
    parts = layer_parts(source.path)
    assert set(parts.values()) == {"backbone", "neck", "head", "head.last"}
    artifact = exported(plugin, source, given, tmp_path / "export")
    assert read_layers(artifact.path) == parts
    assert plugin.describe(artifact).layers.keys() == parts.keys()
    if plugin is yolodeploy_ncnn:
        decoding_reads_only_fp32(artifact)
    predict = plugin.open(artifact, Target(plugin.DEVICES[0]), 1)
    found = torch.from_numpy(predict(given.images[:1].numpy()))
    if plugin is not yolodeploy_ncnn:
        assert layout_of(predict) == "rows"
        assert given.rows is not None
        # which of two nearly equal scores goes first depends on the processor
        boxes, scores = row_differences(given.rows[0].numpy(), found[0].numpy())
        assert len(boxes) >= 0.95 * len(found[0])
        box, score = boxes.max().item(), scores.max().item()
    else:
        reference = yolodeploy_torch.open(source, Target(plugin.DEVICES[0]), 1)
        expected = torch.from_numpy(reference(given.images[:1].numpy()))
        box, score = differences(found, expected)
    assert (box <= 0.02, score <= 1e-4) == (True, True), (box, score)


def test_a_depthwise_convolution_computes_in_int8_what_the_file_says(
    given: Oracle, demo: RealModel, tmp_path: Path
) -> None:
    """Recomputed from the file with integers; ncnn divides by the scales with an approximation."""
    source = load(given.checkpoint, tmp_path / "load")
    exact = exported(yolodeploy_ncnn, source, given, tmp_path / "export")
    name = "model.23.one2one_cv3.0.1.0.conv"
    view = load_view(demo.data, View(split="train", images=2), 0)
    prepared = replace(context(tmp_path / "int8"), data={"calibration": view})
    step = yolodeploy_ncnn.STEPS[2]
    everything_else = tuple(other for other in read_layers(exact.path) if other != name)
    params = step.params(min_sqnr=None, keep_float=("dfl", "decode", *everything_else))
    prepared = replace(prepared, imgsz=ImageShape(*given.images.shape[2:]))
    loaded = model.read(Artifact("ncnn", step.run(exact, params, prepared), ""))
    kernel, bias, scales, (scale,) = (b.floats(loaded.data) for b in loaded.blocks_of(name))
    layer = loaded.kernels[name].layer
    assert (layer.type, loaded.forms()[name]) == ("ConvolutionDepthWise", "int8")
    blobs = [layer.inputs[0], layer.outputs[0]]
    predict = NcnnPredictor(loaded.folder, 1)
    (_, read), (_, got) = predict.blobs(given.images[0].numpy(), blobs)
    whole = np.clip(np.round(read * scale), -127, 127)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(whole, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2)
    )
    sums = np.einsum("chwij,cij->chw", windows, kernel.reshape(-1, 3, 3))
    wanted = sums / (scales * scale)[:, None, None] + bias[:, None, None]
    assert np.abs(got - wanted).max() < 2e-4 * np.abs(wanted).max()
