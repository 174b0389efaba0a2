"""The ONNX Runtime backend: what its files hold, and figures of the demo model through them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from real_model import RealModel
from torch_support import context, load

import yolodeploy_onnx
import yolodeploy_onnxruntime as backend
from yolodeploy.backend import Artifact, Context, Target
from yolodeploy.compress import read_layers
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.recipe import View
from yolodeploy.tasks import primary_score
from yolodeploy.tasks.detection import Detect
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnxruntime.model_file import MODEL_FILE, Lookup, read_model
from yolodeploy_onnxruntime.params import W8, Export, Quantize

PROBLEM = backend.problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))

DEVICES = {device.name: device for device in backend.DEVICES}
STEPS = {step.name: step for step in backend.STEPS}
PC = Target(DEVICES["linux-x64"])
Floats = NDArray[np.float32]
# What is looked for on the outputs of 64 models takes most of the time; `integer` spares nothing, though it may.
ALL = {"spare_dominant": False}


@pytest.fixture(scope="module")
def source(demo: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(demo.weights, tmp_path_factory.mktemp("source") / "load")


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=8), 0)


@pytest.fixture(scope="module")
def exact(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export(source, tmp_path_factory.mktemp("exact") / "work")


@pytest.fixture(scope="module")
def integer(exact: Artifact, view: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return quantize(exact, view, tmp_path_factory.mktemp("integer") / "work")


def export(source: Artifact, work: Path, **params: object) -> Artifact:
    options = Export.model_validate({"precision": "fp32", **params})
    return Artifact(backend.NAME, STEPS["export"].run(source, options, given(work)), "")


def quantize(
    source: Artifact, view: Dataset, work: Path, target: Target = PC, **params: object
) -> Artifact:
    prepared = replace(given(work), data={"calibration": view}, target=target)
    made = STEPS["quantize"].run(source, Quantize.model_validate(params), prepared)
    return Artifact(backend.NAME, made, "")


def given(work: Path) -> Context:
    return replace(context(work), target=PC)


def run(artifact: Artifact, images: Floats) -> Floats:
    return backend.open(artifact, PC, 1)(images)


def optimized(artifact: Artifact, work: Path) -> Counter[str]:
    """How often each operator occurs in what ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(work / "optimized.onnx")
    onnxruntime.InferenceSession(str(artifact.path / MODEL_FILE), options)
    return Counter(node.op_type for node in onnx.load(work / "optimized.onnx").graph.node)


def test_a_file_is_valid_and_names_its_layers(exact: Artifact) -> None:
    onnx.checker.check_model(str(exact.path / MODEL_FILE), full_check=True)
    model = read_model(exact.path)
    assert [each.version for each in model.opset_import] == [17]
    named = {node.name for node in model.graph.node if node.name}
    assert named == read_layers(exact.path).keys()
    assert not model.metadata_props


def test_int8_keeps_the_accuracy_and_a_quarter_of_the_size(
    exact: Artifact, integer: Artifact, demo: RealModel
) -> None:
    evaluation = load_view(demo.data, View(images=60), 0)
    size, task = given(exact.path.parent / "unused").imgsz, Detect(evaluation.names)
    scores = [
        primary_score(backend.open(made, PC, 1), evaluation, size, task, "one-to-many")
        for made in (exact, integer)
    ]
    assert scores[0] - scores[1] < 0.01
    files = [(made.path / MODEL_FILE).stat().st_size for made in (exact, integer)]
    assert files[1] < 0.27 * files[0]


def test_onnxruntime_runs_what_is_between_the_convolutions_in_8_bits(
    integer: Artifact, tmp_path: Path
) -> None:
    found = optimized(integer, tmp_path)
    assert found["QLinearConv"] == 57
    assert found["Conv"] == 7, "the last of six branches, whose logits are decoded, and the DFL"
    assert found["QuickGelu"] == 57
    assert (found["QLinearAdd"], found["QLinearConcat"]) == (6, 13)
    assert (found["NhwcMaxPool"], found["Resize"]) == (3, 2)
    forms = Counter(backend.describe(integer).layers.values())
    assert forms == {"int8": 63, "fp32": 1}


def test_every_target_holds_maps_and_weights_as_its_processor_multiplies_them(
    exact: Artifact, view: Dataset, tmp_path: Path
) -> None:
    for name, kind, most in (("android-ort", np.int8, 127), ("linux-x64-avx2", np.uint8, 63)):
        made = quantize(exact, view, tmp_path / name, Target(DEVICES[name]), **ALL)
        lookup = Lookup(read_model(made.path))
        weights = [lookup.values(key) for key in lookup.stored if key.startswith("w:")]
        zeros = [lookup.values(key) for key in lookup.stored if key.startswith("z:")]
        assert {each.dtype for each in zeros} == {np.dtype(kind)}
        assert max(int(np.abs(each.astype(int)).max()) for each in weights) == most


def test_selectors_and_the_budget_leave_layers_in_float(
    exact: Artifact, view: Dataset, tmp_path: Path
) -> None:
    floats = ["head", "dfl", "decode"]
    kept = quantize(exact, view, tmp_path / "kept", keep_float=floats, **ALL)
    forms = backend.describe(kept).layers
    parts = read_layers(kept.path)
    assert {forms[name] for name, part in parts.items() if part.startswith("head")} == {"fp32"}
    assert {forms[name] for name, part in parts.items() if part == "backbone"} == {"int8"}
    most = ("backbone", "neck", "dfl", "decode")
    choice = quantize(exact, view, tmp_path / "choice", keep_float=most, min_sqnr=45)
    forms = backend.describe(choice).layers
    head = [forms[name] for name, part in parts.items() if part.startswith("head")]
    assert 9 <= head.count("int8") < len(head) == 18


def test_a_batch_gives_what_single_images_give(
    source: Artifact, exact: Artifact, integer: Artifact, view: Dataset, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).random((5, 3, 160, 160), dtype=np.float32)
    four = export(source, tmp_path / "four", batch=4)
    integers = quantize(four, view, tmp_path / "int8", **ALL)
    for single, several in ((exact, four), (integer, integers)):
        assert np.abs(run(several, images) - run(single, images)).max() < 1e-3
    assert backend.describe(four).batch == 4
    server = backend.serve(four, PC, 2)
    assert (server.batch, server.requests) == (4, 2)
    assert server(images[:4], 3) > 0


def test_weights_alone_are_stored_in_8_bits_and_unpacked_when_loaded(
    exact: Artifact, tmp_path: Path
) -> None:
    made = Artifact(backend.NAME, STEPS["w8"].run(exact, W8(), given(tmp_path / "w8")), "")
    files = [(each.path / MODEL_FILE).stat().st_size for each in (exact, made)]
    assert files[1] < 0.26 * files[0]
    found = optimized(made, tmp_path)
    assert found == optimized(exact, tmp_path), "nothing is left to unpack"
    assert Counter(backend.describe(made).layers.values()) == {"int8 weights": 63, "fp32": 1}


def test_every_version_of_the_operators_gives_the_same(
    source: Artifact, exact: Artifact, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).random((1, 3, 160, 160), dtype=np.float32)
    for opset in (14, 21):
        made = export(source, tmp_path / f"{opset}", opset=opset)
        onnx.checker.check_model(str(made.path / MODEL_FILE), full_check=True)
        assert np.abs(run(made, image) - run(exact, image)).max() < 1e-3


@pytest.fixture(scope="module")
def passed(exact: Artifact, demo: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A "yolo" artifact of which only the outputs are known, without names, with an operator that is no primitive."""
    folder = tmp_path_factory.mktemp("passed")
    model = read_model(exact.path)
    for node in model.graph.node:
        node.name = ""
    first = model.graph.node[0].output[0]
    model.graph.node.insert(1, onnx.helper.make_node("Erf", [first], ["erf"]))
    model.graph.node.insert(2, onnx.helper.make_node("Add", [first, "erf"], ["bent"]))
    for node in list(model.graph.node)[3:]:
        node.input[:] = ["bent" if value == first else value for value in node.input]
    file = folder / "bent.onnx"
    onnx.save(model, file)
    work = folder / "loaded"
    load, params = yolodeploy_onnx.STEPS[0], LoadOnnx(names=tuple("abcde"))
    return Artifact("yolo", load.run(Artifact(".onnx", file, ""), params, context(work)), "")


def test_a_model_that_is_passed_on_is_compressed_too(
    passed: Artifact, view: Dataset, tmp_path: Path
) -> None:
    image = next(view.letterboxed(given(tmp_path / "unused").imgsz))
    made = export(passed, tmp_path / "export")
    assert np.array_equal(run(made, image), run(Artifact("", passed.path, ""), image))
    parts: Mapping[str, str] = read_layers(made.path)
    assert Counter(parts.values()) == {"backbone": 57, "head.last": 6, "dfl": 1}
    integer = quantize(made, view, tmp_path / "int8", **ALL)
    assert Counter(backend.describe(integer).layers.values()) == {"int8": 63, "fp32": 1}
    best = run(made, image)[0, 4:].max(0).argsort()[-5:]
    difference = np.abs(run(integer, image) - run(made, image))[0][:, best]
    assert difference[:4].max() < 4
    half = export(passed, tmp_path / "half", precision="fp16")
    assert set(backend.describe(half).layers.values()) == {"fp16"}
    with pytest.raises(PlanRefused, match=r"takes one image at a time. Remove `batch`"):
        export(passed, tmp_path / "batch", batch=2)
    with pytest.raises(PlanRefused, match=r"has version 17 of the operators. Remove `opset`"):
        export(passed, tmp_path / "opset", opset=15)


def test_a_file_of_another_size_is_refused(passed: Artifact, tmp_path: Path) -> None:
    work = replace(context(tmp_path / "small", 96), target=PC)
    with pytest.raises(StepFailed, match=r"must take `images` of shape \(1, 3, 96, 96\)"):
        STEPS["export"].run(passed, Export(), work)
