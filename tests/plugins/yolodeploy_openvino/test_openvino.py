"""The OpenVINO backend with the real OpenVINO: output, bytes, and nothing reported home."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch_support import COCO_IMAGES, COCO_MODEL, DEMO, ROOT, context, load

import yolodeploy_openvino as backend
import yolodeploy_torch
from yolodeploy.backend import Artifact, Target
from yolodeploy.errors import StepFailed
from yolodeploy_openvino.params import Export

IMGSZ = 160
MODEL = DEMO if DEMO.is_file() else COCO_MODEL

pytestmark = pytest.mark.skipif(
    backend.problem() is not None or not MODEL.is_file(),
    reason=backend.problem() or f"{DEMO} is missing; restore it from the repository",
)


def export(source: Artifact, work: Path, precision: str, imgsz: int = IMGSZ) -> Artifact:
    params = Export(precision=precision)
    folder = backend.STEPS[0].run(source, params, context(work, imgsz))
    return Artifact("openvino", folder, "")


def run(plugin, artifact: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return plugin.open(artifact, Target(backend.DEVICES[0]), 1)(images)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(MODEL, tmp_path_factory.mktemp("load") / "work")


@pytest.fixture(scope="module")
def exports(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("export")
    return {name: export(source, folder / name, name) for name in ("fp32", "fp16")}


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((3, 3, IMGSZ, IMGSZ), dtype=np.float32)


@pytest.mark.parametrize(
    ("precision", "box_limit", "score_limit"), [("fp32", 0.005, 1e-5), ("fp16", 1.0, 0.02)]
)
def test_output_is_the_source_models(
    precision: str,
    box_limit: float,
    score_limit: float,
    source: Artifact,
    exports: dict[str, Artifact],
    images: NDArray[np.float32],
) -> None:
    expected = run(yolodeploy_torch, source, images)
    output = run(backend, exports[precision], images)
    assert output.shape == expected.shape
    assert output.dtype == np.float32
    delta = np.abs(output - expected)
    box, score = float(delta[:, :4].max()), float(delta[:, 4:].max())
    assert (box <= box_limit, score <= score_limit) == (True, True), (box, score)


def test_fp16_halves_the_weights(exports: dict[str, Artifact]) -> None:
    single, half = ((exports[name].path / "model.bin").stat().st_size for name in ("fp32", "fp16"))
    assert 0.49 < half / single < 0.52


def test_same_bytes_whatever_was_converted_before(
    source: Artifact, exports: dict[str, Artifact], tmp_path: Path
) -> None:
    export(source, tmp_path / "other", "fp32", imgsz=64)
    for precision, artifact in exports.items():
        again = export(source, tmp_path / precision, precision)
        assert digests(again.path) == digests(artifact.path)


SCRIPT = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_openvino
from yolodeploy.backend import Artifact
os.umask(int(sys.argv[3], 8))
source = Artifact("yolo", Path(sys.argv[1]), "")
artifact = test_openvino.export(source, Path(sys.argv[2]), "fp16")
print(json.dumps(test_openvino.digests(artifact.path)))
"""


def in_a_process(source: Artifact, work: Path, seed: str, umask: str, home: Path) -> object:
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TZ": "UTC" if seed == "1" else "Asia/Tokyo",
    }
    environment.pop("CI", None)
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script, str(source.path), str(work), umask],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_same_bytes_in_every_process_and_nothing_left_at_home(
    source: Artifact, exports: dict[str, Artifact], tmp_path: Path
) -> None:
    first = in_a_process(source, tmp_path / "a", "1", "022", tmp_path / "home1")
    second = in_a_process(source, tmp_path / "b" / "c", "2", "077", tmp_path / "home2")
    assert first == second == digests(exports["fp16"].path)
    # OpenVINO's usage reporting would keep a client id there.
    assert [path.name for path in tmp_path.glob("home*/*")] == []


def test_files_name_no_folder_and_no_date(exports: dict[str, Artifact]) -> None:
    for artifact in exports.values():
        assert sorted(digests(artifact.path)) == ["layers.json", "model.bin", "model.xml"]
        text = (artifact.path / "model.xml").read_text()
        assert str(artifact.path.parent) not in text
        assert "conversion_parameters" not in text


def test_description_is_read_from_the_file(exports: dict[str, Artifact]) -> None:
    interface = backend.describe(exports["fp16"])
    (image,), (output,) = interface.inputs, interface.outputs
    assert (image.name, image.shape) == ("images", (1, 3, IMGSZ, IMGSZ))
    assert (output.name, output.shape[0], output.shape[2]) == ("output0", 1, 525)
    assert (interface.entry, interface.scale) == ("model.xml", 1 / 255)


def test_runtime_says_what_was_measured(exports: dict[str, Artifact]) -> None:
    for device in backend.DEVICES:
        runtime = backend.open(exports["fp32"], Target(device), 2).runtime
        assert (runtime.name, runtime.threads) == ("OpenVINO", 2)
        assert runtime.note.startswith("computed in f32")
        if str(device.options["cpu"]) not in runtime.device:
            assert runtime.note.endswith(f"on this machine's CPU, not on {device.title}")


def test_unit_falls_back_to_the_cpu() -> None:
    from yolodeploy_openvino.runtime import available_unit

    assert available_unit("NPU", ["CPU", "GPU.0"]) == "CPU"
    assert available_unit("GPU", ["CPU", "GPU.0"]) == "GPU"


def test_damaged_artifact(exports: dict[str, Artifact], tmp_path: Path) -> None:
    text = (exports["fp32"].path / "model.xml").read_text()
    (tmp_path / "model.xml").write_text(text[: len(text) // 2])
    (tmp_path / "model.bin").write_bytes((exports["fp32"].path / "model.bin").read_bytes())
    with pytest.raises(StepFailed, match=r"cannot open .*model\.xml on CPU: .*Build it again"):
        backend.open(Artifact("openvino", tmp_path, ""), Target(backend.DEVICES[0]), 1)


def test_a_layer_with_a_name_that_is_no_text(exports: dict[str, Artifact], tmp_path: Path) -> None:
    raw = (exports["fp32"].path / "model.xml").read_bytes()
    (tmp_path / "model.xml").write_bytes(raw.replace(b'name="images"', b'name="im\xf6ges"'))
    (tmp_path / "model.bin").write_bytes((exports["fp32"].path / "model.bin").read_bytes())
    with pytest.raises(StepFailed, match=r"cannot read .*model\.xml: .*utf-8.*Build it again"):
        backend.describe(Artifact("openvino", tmp_path, ""))


def test_importing_the_plugin_imports_no_toolchain() -> None:
    code = (
        "import sys, yolodeploy_openvino;"
        "print({'torch', 'numpy', 'openvino', 'yolodeploy_torch'} & set(sys.modules))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    environment = {**os.environ, "PYTHONPATH": path}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment) == b"set()\n"


@pytest.mark.coco
@pytest.mark.skipif(not COCO_MODEL.is_file(), reason=f"{COCO_MODEL} is missing")
def test_coco_at_full_size(tmp_path: Path) -> None:
    import cv2

    picture = cv2.resize(cv2.imread(str(min(COCO_IMAGES.glob("*.jpg")))), (640, 640))
    images = np.ascontiguousarray(picture[None, ..., ::-1].transpose(0, 3, 1, 2)) / np.float32(255)
    source = load(COCO_MODEL, tmp_path / "load")
    output = run(backend, export(source, tmp_path / "fp32", "fp32", 640), images)
    delta = np.abs(output - run(yolodeploy_torch, source, images))
    assert delta[:, :4].max() <= 0.005
    assert delta[:, 4:].max() <= 1e-5
