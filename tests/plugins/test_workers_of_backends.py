"""What travels to hosts: it needs little there, and gives bit for bit what the backend gives here."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import yolodeploy.worker
from yolodeploy.backend import Artifact, Device, Portable, Target, load_registry
from yolodeploy.errors import HostProblem
from yolodeploy.hosts import LOCAL, ProcessTransport, WorkerHost
from yolodeploy.hosts.answers import typed
from yolodeploy.hosts.worker_host import Model
from yolodeploy.worker import throughput, turns
from yolodeploy.worker.frames import Frame
from yolodeploy.worker.serve import Worker
from yolodeploy.worker.turns import Timing

PORTABLE = [each for each in load_registry().backends.values() if isinstance(each, Portable)]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8) / np.float32(255)
LAYERS = '{"layers": {"pool": "neck"}}'


def _travelling() -> Iterator[tuple[Path, frozenset[str]]]:
    """Each module that travels, and what it may import besides the standard library."""
    for file in Path(next(iter(yolodeploy.worker.__path__))).glob("*.py"):
        yield file, frozenset({"numpy"})
    for backend in PORTABLE:
        spec = importlib.util.find_spec(backend.WORKER.module)
        assert spec is not None
        assert spec.origin is not None
        yield Path(spec.origin), frozenset(backend.WORKER.requires)


@pytest.mark.parametrize(
    ("file", "allowed"), [pytest.param(*each, id=each[0].stem) for each in _travelling()]
)
def test_a_host_needs_python_3_9_and_one_runtime(file: Path, allowed: frozenset[str]) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", "")
            assert called != "zip" or not node.keywords, f"{file}:{node.lineno}: zip of 3.10"
        for name in _imported(node):
            root = name.partition(".")[0]
            inside = name.startswith("yolodeploy.worker")
            assert inside or root in allowed | sys.stdlib_module_names, f"{file}: {name}"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []


def _onnx(folder: Path) -> Any:
    """Two images at a time: a pool, and the greatest of its values as rows."""
    onnx = pytest.importorskip("onnx", reason="not installed. Run: pip install -e '.[onnxruntime]'")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    values = {"flat": [2, 48], "k": [12], "rows": [2, 2, 6]}
    stored = [
        helper.make_tensor(name, onnx.TensorProto.INT64, [len(data)], data)
        for name, data in (*values.items(),)
        if name != "k"
    ]
    stored.append(helper.make_tensor("k", onnx.TensorProto.INT64, [1], [12]))
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["output1"], kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("Reshape", ["output1", "flat"], ["line"]),
        helper.make_node("TopK", ["line", "k"], ["most", "where"]),
        helper.make_node("Reshape", ["most", "rows"], ["output0"]),
    ]
    shapes = {"images": [2, 3, 8, 8], "output0": [2, 2, 6], "output1": [2, 3, 4, 4]}
    told = [helper.make_tensor_value_info(name, floats, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "yolo", told[:1], told[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    (folder / "layers.json").write_text(LAYERS)
    return made


def _openvino(folder: Path) -> None:
    from yolodeploy_openvino.toolchain import openvino, save_model

    source = folder.parent / "source"
    source.mkdir()
    _onnx(source)
    save_model(openvino().convert_model(source / "model.onnx"), folder)
    (folder / "layers.json").write_text(LAYERS)


MAKERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "onnxruntime": ("linux-x64-avx2", _onnx),
    "openvino": ("intel-cpu", _openvino),
}


@pytest.fixture(params=MAKERS)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Artifact:
    name = str(request.param)
    problem = load_registry().backends[name].problem()
    if problem:
        pytest.skip(problem)
    folder = tmp_path / "artifact"
    folder.mkdir()
    MAKERS[name][1](folder)
    return Artifact(name, folder, "")


def _target(artifact: Artifact) -> Target:
    return Target(load_registry().devices()[MAKERS[artifact.format][0]])


def test_the_same_bytes_come_back(artifact: Artifact, tmp_path: Path) -> None:
    backend, target = load_registry().backends[artifact.format], _target(artifact)
    here = LOCAL.open(backend, artifact, target, 1)
    host = WorkerHost(ProcessTransport("other", [sys.executable], str(tmp_path / "there")))
    try:
        there = host.open(backend, artifact, target, 1)
        for images in (IMAGES, IMAGES / 3):  # of the latter, floats are sent
            ours, theirs = here(images), there(images)
            assert isinstance(ours, dict)
            assert list(ours) == list(theirs) == ["output", "prototypes"]
            for name, values in ours.items():
                assert values.tobytes() == theirs[name].tobytes()
                assert values.shape[0] == len(images)
    finally:
        host.close()
    assert (there.layout, there.batch) == (here.layout, here.batch) == ("rows", 2)
    assert there.runtime.version == here.runtime.version
    assert there.runtime.note.startswith("computed ")


def test_throughput_is_measured_there(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker in this process, which sees how few windows are enough for a test."""
    monkeypatch.setattr(throughput, "WINDOWS", 2)
    monkeypatch.setattr(throughput, "WINDOW", 0.01)
    monkeypatch.setattr(turns, "ROUNDS", (2,))
    backend: Any = load_registry().backends[artifact.format]
    worker = Worker(tmp_path / "there", lambda _: None)
    tensor = IMAGES[:1].astype("<f4").tobytes()

    def keep(data: bytes) -> str:
        digest = sha256(data).hexdigest()
        worker.answer(Frame({"do": "keep", "digests": [digest]}, [data]))
        return digest

    files = {each.name: keep(each.read_bytes()) for each in artifact.path.iterdir()}
    model = Model(backend.remote(artifact, _target(artifact)), files).plain(backend.WORKER.module)
    asked = {"model": model, "others": {"float": model}, "tensor": keep(tensor)}
    about = {"do": "time", "shape": [3, 8, 8], "threads": 1, "limits": {}, "serving": 1}
    result, _ = worker.answer(Frame({**asked, **about, "reference": "float"}, []))
    timing: Timing = typed(Timing, result, "other")
    assert timing.throughput is not None
    assert (timing.batch, timing.throughput.batch, timing.throughput.threads) == (2, 2, 1)
    assert timing.throughput.rate.value > 0


def test_a_unit_that_a_host_lacks_is_refused(tmp_path: Path) -> None:
    backend: Any = load_registry().backends["openvino"]
    if problem := backend.problem():
        pytest.skip(problem)
    folder = tmp_path / "artifact"
    folder.mkdir()
    _openvino(folder)
    lacking = Target(Device("npu", "A box", "linux", options={"unit": "NPU"}))
    host = WorkerHost(ProcessTransport("other", [sys.executable], str(tmp_path / "there")))
    said = r"^host `other`: OpenVINO finds no NPU there, only CPU"
    try:
        with pytest.raises(HostProblem, match=said):
            host.open(backend, Artifact("openvino", folder, ""), lacking, 1)
    finally:
        host.close()


def test_a_unit_says_how_many_operations_it_takes(tmp_path: Path) -> None:
    if problem := load_registry().backends["openvino"].problem():
        pytest.skip(problem)
    from yolodeploy_openvino.worker import Compiled

    (tmp_path / "ir").mkdir()
    _openvino(tmp_path / "ir")
    said = Compiled(tmp_path / "ir/model.xml", "CPU", "f32", 1, "LATENCY").placement()
    taken, count = map(int, re.findall(r"CPU takes (\d+) of the (\d+) operations", said)[0])
    assert said.startswith("computed in f32 on CPU; ")
    assert 5 < taken <= count
