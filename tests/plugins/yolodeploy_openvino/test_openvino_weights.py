"""The step `compress_weights`: which bytes, which values, what it costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_openvino import digests, export, run
from torch_support import DEMO, context, load

import yolodeploy_openvino as backend
from yolodeploy.backend import Artifact, Target
from yolodeploy.data.dataset import load_view
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_openvino.params import CompressWeights

DATA = DEMO.parents[1] / "examples" / "shapes" / "data" / "data.yaml"
DEVICES = {device.name: device for device in backend.DEVICES}
STEP = next(step for step in backend.STEPS if step.name == "compress_weights")

pytestmark = pytest.mark.skipif(
    backend.problem() is not None or not DEMO.is_file(),
    reason=backend.problem() or f"{DEMO} is missing",
)


def compress(given: Artifact, work: Path, **params: object) -> Artifact:
    plain = replace(context(work), target=Target(DEVICES["n100"]))
    return Artifact("openvino", STEP.run(given, CompressWeights(**params), plain), "")


def forms(artifact: Artifact) -> Counter[str]:
    return Counter(backend.describe(artifact).layers.values())


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("weights")
    return export(load(DEMO, folder / "load"), folder / "fp16", "fp16")


@pytest.fixture(scope="module")
def bytes8(half: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compress(half, tmp_path_factory.mktemp("8") / "work")


@pytest.fixture(scope="module")
def bytes4(half: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compress(half, tmp_path_factory.mktemp("4") / "work", bits=4)


def test_sizes_and_forms(half: Artifact, bytes8: Artifact, bytes4: Artifact) -> None:
    sizes = [(a.path / "model.bin").stat().st_size for a in (half, bytes8, bytes4)]
    assert 0.50 < sizes[1] / sizes[0] < 0.53
    assert 0.29 < sizes[2] / sizes[0] < 0.34
    assert forms(bytes8) == {"int8 weights": 63, "fp16": 1}
    # 32 does not divide the 27, 144 or 720 weights of a channel: those layers take 8 bits
    assert forms(bytes4)["int4 weights"] > 40
    assert forms(bytes4)["fp16"] == 1
    assert backend.describe(bytes4).layers["model.0.conv"] == "int8 weights"


def test_output_is_close(half: Artifact, bytes8: Artifact, bytes4: Artifact) -> None:
    from yolodeploy.tasks.detection.noise import output_noise

    view = load_view(DATA, View(split="val", images=4), 0)
    images = np.concatenate(list(view.letterboxed(ImageShape.square(160))))
    outputs = [run(backend, artifact, images) for artifact in (half, bytes8, bytes4)]
    noise8, noise4 = (output_noise(outputs[0], found) for found in outputs[1:])
    assert 0 < noise8 < 0.003, noise8
    assert 4 * noise8 < noise4 < 0.5, noise4


@pytest.mark.parametrize(("bits", "limit"), [(8, 4e-5), (4, 1.2e-2)])
def test_codes_are_within_half_a_step(bits: int, limit: float) -> None:
    from yolodeploy_openvino.integer_weights import affine

    rows = np.random.default_rng(0).normal(size=(8, 4, 32)).astype(np.float32)
    rows[0, 0] = 0
    code = affine(rows, bits)
    assert int(code.integers.max()) <= 2**bits - 1
    back = (code.integers.astype(np.float32) - code.zeros) * code.scales
    assert float(((back - rows) ** 2).mean()) < limit
    assert not back[0, 0].any()


def test_weights_in_the_file_are_the_codes(half: Artifact, bytes4: Artifact) -> None:
    from yolodeploy_openvino import layers
    from yolodeploy_openvino.graph import find_structure
    from yolodeploy_openvino.integer_weights import affine
    from yolodeploy_openvino.toolchain import read_model

    def weights(artifact: Artifact) -> NDArray[np.float32]:
        model = read_model(artifact.path)
        return layers.weights(
            find_structure(model, artifact.path).convolutions(model)["model.1.conv"]
        )

    exact = weights(half)
    code = affine(exact.reshape(len(exact), -1, 16), 4)
    again = compress(half, bytes4.path.parent / "16", bits=4, group=16)
    expected = (code.integers.astype(np.float32) - code.zeros) * code.scales.astype(np.float32)
    assert np.array_equal(weights(again), expected.reshape(exact.shape))


def test_same_bytes_again(half: Artifact, bytes4: Artifact, tmp_path: Path) -> None:
    again = compress(half, tmp_path / "a" / "b", bits=4)
    assert digests(again.path) == digests(bytes4.path)
    assert str(tmp_path) not in (again.path / "model.xml").read_text()


def test_sensitive_layers_in_8_bits_the_rest_in_4(half: Artifact, tmp_path: Path) -> None:
    first = compress(half, tmp_path / "4", bits=4, keep_float=("dfl", "head", "backbone"))
    assert forms(first)["fp16"] > 40
    both = compress(first, tmp_path / "8")
    assert set(forms(both)) == {"int4 weights", "int8 weights", "fp16"}
    assert forms(both)["fp16"] == 1
    with pytest.raises(StepFailed, match=r"no float weights are left.*Remove `compress_weights`"):
        compress(both, tmp_path / "again")


def test_a_trial_compresses_one_layer(half: Artifact, tmp_path: Path) -> None:
    assert STEP.probe
    probe = STEP.probe(half, CompressWeights(bits=4), context(tmp_path / "work"))
    assert len(probe.trials) == 63
    assert {trial.scheme for trial in probe.trials} == {"4 bits", "8 bits"}
    probe.write(probe.trials[5], tmp_path)
    found = backend.describe(Artifact("openvino", tmp_path, "")).layers
    assert [name for name, form in found.items() if form != "fp16"] == [probe.trials[5].layer]


def test_unmatched_selector(half: Artifact, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match=r"`keep_float: hed` matches no layer.*`head`"):
        compress(half, tmp_path / "work", keep_float=("hed",))


def test_int4_is_refused_off_the_cpu() -> None:
    for device in backend.DEVICES:
        target = Target(device)
        assert backend.refuse(STEP, CompressWeights(), target) is None
        refused = backend.refuse(STEP, CompressWeights(bits=4), target)
        assert (refused is not None) == (device.options["unit"] != "CPU")
    assert refused is None
    npu = backend.refuse(STEP, CompressWeights(bits=4), Target(DEVICES["core-ultra-7"]))
    assert npu
    assert npu.endswith("Use bits: 8, or a device whose unit is the CPU.")
