"""The ncnn backend on the demo model, with the real pnnx and the real ncnn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import yolodeploy_ncnn as backend
import yolodeploy_torch
from yolodeploy.backend import Artifact, Context, ModelInfo, Target
from yolodeploy.errors import StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_ncnn import bin_file, decode, export, param_file
from yolodeploy_torch.model.exportable import exportable

FILES = ["model.ncnn.bin", "model.ncnn.param"]
FP16_TAG = (0x01306B47).to_bytes(4, "little")
IMGSZ = 160

pytestmark = pytest.mark.skipif(
    backend.problem() is not None, reason=backend.problem() or "ncnn is installed"
)


@dataclass(frozen=True)
class Built:
    """A checkpoint, its float32 output on two images, and its exports by precision."""

    source: Artifact
    images: np.ndarray
    expected: np.ndarray
    exports: dict[str, Artifact]


def make_context(work: Path) -> Context:
    work.mkdir(parents=True)
    target = Target(backend.DEVICES[0])
    return Context(work, 0, ImageShape.square(IMGSZ), 1, target, (), {}, lambda *_: None)


def build(checkpoint: Path, work: Path) -> Built:
    load = yolodeploy_torch.STEPS[0]
    folder = load.run(
        Artifact(".pt", checkpoint, ""), yolodeploy_torch.Load(), make_context(work / "load")
    )
    source = Artifact("yolo", folder, "")
    exports = {
        precision: Artifact("ncnn", run(source, precision, work / precision), "")
        for precision in ("fp32", "fp16")
    }
    images = np.random.default_rng(0).random((2, 3, IMGSZ, IMGSZ), dtype=np.float32)
    return Built(source, images, open_with(yolodeploy_torch, source)(images), exports)


def run(source: Artifact, precision: str, work: Path) -> Path:
    return backend.STEPS[0].run(source, export.NcnnExport(precision=precision), make_context(work))


def open_with(plugin, artifact: Artifact):
    return plugin.open(artifact, Target(backend.DEVICES[0]), 1)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def built(demo, tmp_path_factory) -> Built:
    return build(demo.weights, tmp_path_factory.mktemp("ncnn"))


def raw_graph(built: Built) -> str:
    """The graph as pnnx wrote it; it stays in the step's work folder."""
    return (built.exports["fp32"].path.parent / FILES[1]).read_text()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_two_files_and_a_described_interface(built, precision):
    artifact = built.exports[precision]
    assert sorted(path.name for path in artifact.path.iterdir()) == FILES
    interface = backend.describe(artifact)
    assert (artifact.path / interface.entry).is_file()
    assert [(t.name, t.shape) for t in interface.inputs] == [("in0", (3, IMGSZ, IMGSZ))]
    assert [(t.name, t.shape) for t in interface.outputs] == [("out0", built.expected.shape[1:])]
    assert interface.scale == 1 / 255


def test_fp32_agrees_with_torch(built):
    output = open_with(backend, built.exports["fp32"])(built.images)
    assert output.dtype == np.float32
    assert np.abs(output[:, :4] - built.expected[:, :4]).max() <= 0.005
    assert np.abs(output[:, 4:] - built.expected[:, 4:]).max() <= 1e-5


def test_fp16_stores_the_rounded_weights(built):
    full, half = ((built.exports[p].path / FILES[0]).read_bytes() for p in ("fp32", "fp16"))
    first = (
        next(exportable(built.source.path, ImageShape.square(IMGSZ)).parameters())
        .numpy()
        .astype("<f2")
        .tobytes()
    )
    assert FP16_TAG + first in half
    assert 0.5 < len(half) / len(full) < 0.51
    graphs = [(built.exports[p].path / FILES[1]).read_bytes() for p in ("fp32", "fp16")]
    assert graphs[0] == graphs[1]


def test_param_round_trip_is_exact(built):
    text = raw_graph(built)
    assert param_file.to_text(param_file.parse(text)) == text


def test_decoding_in_fp32_changes_nothing_on_this_machine(built, tmp_path):
    artifact = built.exports["fp32"]
    shutil.copy(artifact.path / FILES[0], tmp_path)
    (tmp_path / FILES[1]).write_text(raw_graph(built))
    plain = open_with(backend, Artifact("ncnn", tmp_path, ""))(built.images)
    assert np.array_equal(plain, open_with(backend, artifact)(built.images))


def check_decode(built: Built) -> None:
    """Everything behind the two joins is masked, nothing before them."""
    graph = param_file.read(built.exports["fp16"].path / FILES[1])
    masked = {layer.name for layer in graph.layers if decode.FEATURE_MASK in layer.params}
    casts = [layer for layer in graph.layers if layer.type == "Dropout"]
    assert [graph.producers[layer.inputs[0]].type for layer in casts] == ["Concat", "Concat"]
    readers = [{la.name for la in graph.layers if c.outputs[0] in la.inputs} for c in casts]
    assert all(names and names <= masked for names in readers)
    kinds = sorted(layer.type for layer in graph.layers if layer.name in masked)
    assert kinds.count("Softmax") == kinds.count("Sigmoid") == kinds.count("Convolution") == 1
    assert graph.producers["out0"].name in masked
    strides = ModelInfo.read(built.source.path).strides
    found = decode.find_decode(graph)
    assert found.anchors == sum((IMGSZ // stride) ** 2 for stride in strides)
    assert found.classes == len(ModelInfo.read(built.source.path).names)


def test_decoding_is_found(built):
    check_decode(built)


@pytest.mark.coco
def test_decoding_is_found_with_80_classes(coco, tmp_path):
    check_decode(build(coco.weights, tmp_path))


def test_decoding_is_found_by_structure_not_by_name(built):
    graph = param_file.parse(raw_graph(built))
    renamed = param_file.Graph(
        tuple(replace(la, name=f"n{i}") for i, la in enumerate(graph.layers))
    )
    first, second = decode.find_decode(graph), decode.find_decode(renamed)
    positions = {la.name: f"n{i}" for i, la in enumerate(graph.layers)}
    assert {positions[name] for name in first.layers} == second.layers
    assert (first.classes, first.anchors) == (second.classes, second.anchors)


def test_fp32_arithmetic_masks_every_layer_and_changes_no_weight(built, tmp_path):
    params = export.NcnnExport(precision="fp16", arithmetic="fp32")
    folder = backend.STEPS[0].run(built.source, params, make_context(tmp_path / "work"))
    plain = built.exports["fp16"].path
    assert (folder / FILES[0]).read_bytes() == (plain / FILES[0]).read_bytes()
    masks = {
        layer.name: layer.params.get(decode.FEATURE_MASK)
        for layer in param_file.read(folder / FILES[1]).layers
        if layer.type != "Dropout"
    }
    behind = decode.find_decode(param_file.read(plain / FILES[1])).layers
    assert masks == {name: "3" if name in behind else "1" for name in masks}


def test_a_network_without_a_detection_head_is_refused():
    text = "7767517\n2 2\nInput in 0 1 in0\nReLU relu 1 1 in0 out0\n"
    with pytest.raises(StepFailed, match="not a YOLO detection head"):
        decode.keep_fp32(param_file.parse(text))


SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from test_ncnn import Artifact, digests, run
print(json.dumps(digests(run(Artifact("yolo", Path(sys.argv[2]), ""), "fp16", Path(sys.argv[3])))))
"""


def test_same_bytes_in_another_process_folder_and_environment(built, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "OMP_NUM_THREADS": "2"}
    paths = json.dumps([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", SCRIPT, paths, built.source.path, tmp_path / "elsewhere" / "w"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, umask=0o077, check=True, capture_output=True
    )
    assert json.loads(done.stdout) == digests(built.exports["fp16"].path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (FILES[0], lambda data: data[: len(data) // 2]),
        (FILES[0], lambda _: b""),
        (FILES[0], lambda data: data + b"more"),
        (FILES[1], lambda data: data[: len(data) // 2]),
        (FILES[1], lambda data: data.replace(b"Softmax", b"Sofdmax")),
        (FILES[1], lambda data: data.replace(b" 6=432", b" 6=43200")),
        (FILES[1], lambda _: b"\xff\x00" * 99),
    ],
)
def test_damaged_files_are_refused(built, tmp_path, name, damage):
    folder = shutil.copytree(built.exports["fp16"].path, tmp_path / "copy")
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(StepFailed, match="damaged"):
        open_with(backend, Artifact("ncnn", folder, ""))


def test_a_layer_of_less_than_nothing_is_refused():
    graph = param_file.parse(
        "7767517\n4 4\nInput in 0 1 a 0=8 1=8\nConvolution c1 1 1 a b 0=1 1=1 6=8\n"
        "Convolution c2 1 1 b c 0=1 1=1 6=-8\nConvolution c3 1 1 c d 0=1 6=8\n"
    )
    with pytest.raises(ValueError, match="c2 has -8 weights"):
        bin_file.blocks(graph, bytes(44))


def test_a_failing_converter_shows_its_log(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"not TorchScript")
    with pytest.raises(StepFailed, match=r"(?s)pnnx ended with code .*inputshape|pnnx ended with"):
        export._convert(tmp_path, ImageShape.square(IMGSZ), half=True)
