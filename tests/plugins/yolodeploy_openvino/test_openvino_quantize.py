"""The step `quantize` with the real NNCF: which layers, which bytes, what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_openvino
from numpy.typing import NDArray
from test_openvino import digests, export, run
from torch_support import DEMO, ROOT, context, load

import yolodeploy_openvino as backend
from yolodeploy.backend import Artifact, Device, ModelInfo, Target
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy.system.distributions import missing
from yolodeploy_openvino.params import Quantize

DATA = ROOT / "examples" / "shapes" / "data" / "data.yaml"
DEVICES = {device.name: device for device in backend.DEVICES}
ICELAKE, COFFEE_LAKE = DEVICES["xeon-icelake"], DEVICES["core-i7-8700"]
STEP = next(step for step in backend.STEPS if step.name == "quantize")
PROBLEM = backend.problem() or missing("openvino", *STEP.tools)

pytestmark = pytest.mark.skipif(
    PROBLEM is not None or not DEMO.is_file(), reason=PROBLEM or f"{DEMO} is missing"
)


def calibration(images: int = 4) -> Dataset:
    return load_view(DATA, View(split="train", images=images), 0)


def quantize(
    given: Artifact,
    work: Path,
    view: Dataset | None = None,
    device: Device = ICELAKE,
    **params: object,
) -> Artifact:
    plain = context(work)
    images = view or calibration()
    model = ModelInfo("detect", images.names, (8, 16, 32), 0)
    plain = replace(plain, model=model, data={"calibration": images})
    folder = STEP.run(given, Quantize(**params), replace(plain, target=Target(device)))
    return Artifact("openvino", folder, "")


def read(artifact: Artifact):
    from yolodeploy_openvino.toolchain import read_model

    return read_model(artifact.path)


def integer_convolutions(artifact: Artifact) -> set[str]:
    """Names of the convolutions whose weights are stored in 8 bits, by what feeds them."""
    found = set()
    for node in read(artifact).get_ordered_ops():
        if node.get_type_name() == "Convolution":
            weights = node.input(1).get_source_output().get_node()
            while weights.get_type_name() != "Constant":
                weights = weights.input(0).get_source_output().get_node()
            if weights.get_element_type().get_type_name() == "i8":
                found.add(node.get_friendly_name())
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(DEMO, tmp_path_factory.mktemp("load") / "work")


@pytest.fixture(scope="module")
def floats(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("export")
    return {name: export(source, folder / name, name) for name in ("fp32", "fp16")}


@pytest.fixture(scope="module")
def quantized(floats: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return quantize(floats["fp32"], tmp_path_factory.mktemp("quantize") / "work")


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    return next(load_view(DATA, View(split="val", images=1), 0).letterboxed(ImageShape.square(160)))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_graph_has_the_parts_of_the_table(
    precision: str, source: Artifact, floats: dict[str, Artifact]
) -> None:
    from yolodeploy_openvino.graph import find_structure
    from yolodeploy_torch.model import layer_parts

    artifact = floats[precision]
    parts = find_structure(read(artifact), artifact.path).parts
    expected = layer_parts(source.path)
    assert {name: part for name, part in parts.items() if part != "decode"} == expected
    assert sum(part == "decode" for part in parts.values()) == 22


def test_only_dfl_and_decode_stay_float(quantized: Artifact, floats: dict[str, Artifact]) -> None:
    from yolodeploy_openvino.graph import find_structure

    found = find_structure(read(floats["fp32"]), floats["fp32"].path)
    decode = {name for name, part in found.parts.items() if part == "decode"}
    integer = integer_convolutions(quantized)
    assert len(integer) == 63
    assert "model.22.dfl.conv" not in integer
    for node in read(quantized).get_ordered_ops():
        if node.get_friendly_name() in decode:
            kinds = {port.get_source_output().get_node().get_type_name() for port in node.inputs()}
            assert "FakeQuantize" not in kinds, node.get_friendly_name()


def test_size_and_output(
    quantized: Artifact, source: Artifact, floats: dict[str, Artifact], image: NDArray[np.float32]
) -> None:
    sizes = [(a.path / "model.bin").stat().st_size for a in (floats["fp32"], quantized)]
    assert 0.24 < sizes[1] / sizes[0] < 0.28
    output, expected = run(backend, quantized, image), run(backend, floats["fp32"], image)
    likely = expected[0, 4:].max(0) > 0.5
    delta = np.abs(output - expected)[0][:, likely]
    assert likely.sum() > 5
    assert delta[:4].max() < 0.03 * 160
    assert np.median(delta[4:].max(0)) < 0.05


def test_selected_layers_stay_float_and_without_vnni_weights_keep_to_half_of_their_range(
    quantized: Artifact, floats: dict[str, Artifact], tmp_path: Path
) -> None:
    kept = ("head.last", "dfl", "decode", "model.2.*")
    artifact = quantize(floats["fp32"], tmp_path / "work", device=COFFEE_LAKE, keep_float=kept)
    assert len(integer_convolutions(artifact)) == 63 - 6 - 4
    assert _largest_weight(quantized) == 127
    assert _largest_weight(artifact) == 64


def test_unmatched_selector(floats: dict[str, Artifact], tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match=r"`keep_float: tail` matches no layer.* backbone, neck"):
        quantize(floats["fp32"], tmp_path / "work", keep_float=("dfl", "decode", "tail"))


def test_half_precision_weights_give_the_same_layers(
    quantized: Artifact, floats: dict[str, Artifact], tmp_path: Path
) -> None:
    artifact = quantize(floats["fp16"], tmp_path / "work")
    assert integer_convolutions(artifact) == integer_convolutions(quantized)


def _largest_weight(artifact: Artifact) -> int:
    constants = [n for n in read(artifact).get_ordered_ops() if n.get_type_name() == "Constant"]
    stored = [n.data for n in constants if n.get_element_type().get_type_name() == "i8"]
    return max(int(np.abs(values.astype(np.int32)).max()) for values in stored)


def test_the_mean_error_of_layers_is_corrected(
    floats: dict[str, Artifact], tmp_path: Path, monkeypatch
) -> None:
    from yolodeploy_openvino.int8 import bias_correction

    corrected = quantize(floats["fp32"], tmp_path / "corrected", calibration(8))
    monkeypatch.setattr(bias_correction, "correct", lambda *_: None)
    plain = quantize(floats["fp32"], tmp_path / "plain", calibration(8))
    exact, *both = (_outputs(artifact) for artifact in (floats["fp32"], plain, corrected))
    without, with_it = (
        np.abs((found - exact)[:, 4:].mean((0, 2))).mean() for found in both
    )  # of the scores, by class
    assert with_it < 0.8 * without, (with_it, without)


def _outputs(artifact: Artifact) -> NDArray[np.float32]:
    view = load_view(DATA, View(split="val"), 0).spread(8)
    images = view.letterboxed(ImageShape.square(160))
    predict = backend.open(artifact, Target(ICELAKE), 1)
    return np.concatenate([predict(image) for image in images])


def test_ranges_hold_what_few_images_show_and_are_by_channel_where_nncf_rounds_so(
    tmp_path: Path,
) -> None:
    from yolodeploy.tasks.detection.noise import output_noise
    from yolodeploy_openvino import layers

    yolo11 = load(DEMO.with_name("shapes-yolo11.pt"), tmp_path / "load" / "work")
    exact = export(yolo11, tmp_path / "float", "fp32")
    integer = quantize(exact, tmp_path / "work", calibration(16))
    found = {node.get_friendly_name(): node for node in read(integer).get_ops()}
    low, high, levels = layers.input_range(found["model.23.cv3.0.1.0.conv"])
    assert low.shape == high.shape == (64,)
    assert levels == 256
    assert (
        output_noise(_outputs(exact), _outputs(integer)) < 0.003
    )  # 0.005 with the ranges that NNCF takes by default


def test_layers_are_described_from_the_file(
    quantized: Artifact, floats: dict[str, Artifact]
) -> None:
    layers = backend.describe(quantized).layers
    assert list(layers)[:2] == ["model.0.conv", "model.1.conv"]
    assert list(layers.values()).count("int8") == 63
    assert layers["model.22.dfl.conv"] == "fp32"
    for precision, artifact in floats.items():
        assert set(backend.describe(artifact).layers.values()) == {precision}


def test_subset_is_what_counts(
    quantized: Artifact, floats: dict[str, Artifact], tmp_path: Path
) -> None:
    """Of eight images the four that `quantized` was made from, though the others would change it."""
    view = calibration(8)
    assert view.images[::2] == calibration(4).images
    chosen = quantize(floats["fp32"], tmp_path / "work", view, subset=4)
    assert digests(chosen.path) == digests(quantized.path)


@pytest.mark.parametrize(
    ("images", "subset", "message"),
    [
        (1, None, "1 calibration image says nothing about the range"),
        (4, 8, "`subset: 8` asks for more than the 4 calibration images"),
    ],
)
def test_too_few_images(
    images: int, subset: int | None, message: str, floats: dict[str, Artifact], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        quantize(floats["fp32"], tmp_path / "work", calibration(images), subset=subset)


def test_unreadable_image(floats: dict[str, Artifact], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    view = calibration()
    with pytest.raises(DataError, match=r"broken\.jpg: is not an image: it begins with `no image`"):
        quantize(
            floats["fp32"], tmp_path / "work", replace(view, images=(*view.images[:2], broken))
        )


def test_quantizing_twice(quantized: Artifact, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match=r"quantized already\. Remove the second `quantize`"):
        quantize(quantized, tmp_path / "work")


def test_leaving_the_decoding_out_is_refused() -> None:
    for device in backend.DEVICES:
        assert backend.refuse(STEP, Quantize(), Target(device)) is None
    reason = backend.refuse(STEP, Quantize(keep_float=("head.last", "dfl")), Target(ICELAKE))
    assert reason is not None
    assert reason.startswith("`keep_float` leaves out `decode`")
    assert reason.endswith("Write keep_float: [head.last, dfl, decode].")


def test_versions_are_the_steps_own() -> None:
    export_step = backend.STEPS[0]
    assert "nncf" not in export_step.versions(backend)
    assert STEP.versions(backend).keys() - export_step.versions(backend).keys() == {"nncf"}


SCRIPT = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_openvino_quantize as test
from yolodeploy.backend import Artifact
os.umask(int(sys.argv[3], 8))
artifact = test.quantize(Artifact("openvino", Path(sys.argv[1]), ""), Path(sys.argv[2]))
print(json.dumps(test.digests(artifact.path)))
"""


@pytest.mark.slow
def test_same_bytes_in_every_process_silent_and_nothing_left_at_home(
    quantized: Artifact, floats: dict[str, Artifact], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TZ": "Asia/Tokyo",
        "OMP_NUM_THREADS": "1",
    }
    script = SCRIPT.format(tests=str(Path(test_openvino.__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script, str(floats["fp32"].path), str(tmp_path / "w"), "077"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == digests(quantized.path)
    assert list(home.iterdir()) == []
    text = (quantized.path / "model.xml").read_text()
    assert "nncf" not in text
    assert str(quantized.path.parent) not in text
