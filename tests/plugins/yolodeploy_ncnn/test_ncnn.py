"""The ncnn backend on the demo model, with the real pnnx and the real ncnn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import yolodeploy_ncnn as backend
import yolodeploy_torch
from yolodeploy.backend import NO_MODEL, Artifact, Context, Target
from yolodeploy.compress import LAYERS_FILE, read_layers
from yolodeploy.errors import StepFailed
from yolodeploy.system import ImageShape
from yolodeploy_ncnn import bin_file, decode, export, naming, param_file
from yolodeploy_torch.model import exportable, layer_parts

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
    return Context(work, 0, ImageShape.square(IMGSZ), 1, target, NO_MODEL, {}, lambda *_: None)


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
    assert sorted(path.name for path in artifact.path.iterdir()) == [LAYERS_FILE, *FILES]
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
    parts = read_layers(built.exports["fp16"].path)
    assert decode.decode_layers(graph, parts) == masked | {layer.name for layer in casts}


def test_decoding_is_found(built):
    check_decode(built)


@pytest.mark.coco
def test_decoding_is_found_with_80_classes(coco, tmp_path):
    check_decode(build(coco.weights, tmp_path))


def test_names_are_the_checkpoints_whatever_pnnx_calls_the_layers(built):
    graph = param_file.read(built.exports["fp16"].path / FILES[1])
    parts = read_layers(built.exports["fp16"].path)
    assert [la.name for la in graph.layers if la.type == "Convolution"] == list(parts)
    assert parts == layer_parts(built.source.path)
    assert len({layer.name for layer in graph.layers}) == len(graph.layers)


def test_layers_with_the_same_weights_are_told_apart_by_their_order():
    graph = param_file.parse(
        "7767517\n4 4\nInput in 0 1 a 0=8 1=8 2=1\nConvolution c1 1 1 a b 0=1 1=1 6=1\n"
        "Convolution c2 1 1 b c 0=1 1=1 6=1\nConvolution c3 1 1 c d 0=1 1=1 6=1\n"
    )
    values = np.array([0.5, 2, 0.5], "<f4")
    data = b"".join(bytes(4) + value.tobytes() for value in values)
    weights = {name: [values[[n]]] for n, name in enumerate(("first", "second", "third"))}
    found = naming.named(graph, data, weights)
    assert [layer.name for layer in found.layers[1:]] == ["first", "second", "third"]
    with pytest.raises(StepFailed, match="left out 1 layers of the model, such as fourth"):
        naming.named(graph, data, {**weights, "fourth": [values[[0]]]})
    with pytest.raises(StepFailed, match="a layer c2 whose weights are those of no layer"):
        naming.named(graph, data, {name: weights[name] for name in ("first", "third")})


def test_fp16_as_pnnx_rounds_it_has_the_digest_of_the_fp32_weights():
    """Ties go away from zero, and small numbers vanish; numpy rounds otherwise."""
    pairs = [(1.00048828125, 1.0009765625), (-3e-5, 0), (0.3, np.float16(0.3)), (1e9, np.inf)]
    exact, stored = (np.array(values, np.float32) for values in zip(*pairs, strict=True))
    assert naming._signature(1, [exact]) == naming._signature(1, [stored])
    assert naming._signature(1, [exact]) != naming._signature(1, [-stored])


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
    behind = decode.decode_layers(param_file.read(plain / FILES[1]), read_layers(plain))
    assert masks == {name: "3" if name in behind else "1" for name in masks}


def test_a_network_without_a_detection_head_is_refused():
    text = "7767517\n2 2\nInput in 0 1 in0\nReLU relu 1 1 in0 out0\n"
    with pytest.raises(StepFailed, match="not that of a YOLO model"):
        decode.keep_fp32(param_file.parse(text), {})


def test_a_layer_that_ncnn_does_not_have_is_refused_before_it_ends_the_process(built, tmp_path):
    folder = shutil.copytree(built.exports["fp16"].path, tmp_path / "copy")
    text = (folder / FILES[1]).read_text()
    (folder / FILES[1]).write_text(text.replace("Sigmoid ", "pnnx.Expression "))
    with pytest.raises(StepFailed, match=r"is a pnnx\.Expression, which ncnn .* does not have"):
        open_with(backend, Artifact("ncnn", folder, ""))


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
