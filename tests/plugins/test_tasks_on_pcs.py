"""Models of every task in ONNX Runtime and OpenVINO: outputs of the source, interfaces, and what computes in 8 bits.

`bench/families/every_family.py` prints how near the outputs of every family are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from families import Oracle, oracle, task_differences
from numpy.typing import NDArray
from real_model import RealModel
from torch_support import context, load

import yolodeploy_onnxruntime
import yolodeploy_openvino
import yolodeploy_torch
from yolodeploy.backend import (
    OUTPUT,
    PROTOTYPES,
    Artifact,
    Context,
    ModelInfo,
    Outputs,
    Target,
    named_outputs,
)
from yolodeploy.compress import Range, Ranges, read_layers
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import task_of
from yolodeploy.tasks.detection.rows import pair_rows
from yolodeploy_torch.model import exportable, layer_parts

pytest.importorskip("ultralytics", reason="the oracle. Run: pip install 'yolodeploy[train]'")
SIZE = (64, 96)
ANCHORS = 126  # of an image of this size
DEVICES = {yolodeploy_onnxruntime: "linux-x64", yolodeploy_openvino: "xeon-icelake"}
Floats = NDArray[np.float32]

of_each_plugin = pytest.mark.parametrize("plugin", [yolodeploy_onnxruntime, yolodeploy_openvino])


@dataclass(frozen=True)
class Model:
    """A model with random weights, and what it is."""

    given: Oracle
    source: Artifact

    @cached_property
    def info(self) -> ModelInfo:
        """What its artifact says of it."""
        return ModelInfo.read(self.source.path)

    @property
    def size(self) -> ImageShape:
        """The images that it takes."""
        return self.info.images(ImageShape(*SIZE))


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    torch.set_num_threads(1)
    made: dict[str, Model] = {}

    def find(name: str) -> Model:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            given = oracle(name, folder, size=SIZE)
            made[name] = Model(given, load(given.checkpoint, folder / "load"))
        return made[name]

    return find


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=4), 0)


def given(plugin: ModuleType, model: Model, work: Path, view: Dataset | None = None) -> Context:
    data = {} if view is None else {"calibration": view}
    return replace(
        context(work), target=target(plugin), imgsz=model.size, model=model.info, data=data
    )


def target(plugin: ModuleType) -> Target:
    if reason := plugin.problem():
        pytest.skip(reason)
    return Target(next(each for each in plugin.DEVICES if each.name == DEVICES[plugin]))


def run(plugin: ModuleType, source: Artifact, name: str, params: Any, prepared: Context) -> Any:
    step = next(each for each in plugin.STEPS if each.name == name)
    made = step.run(source, step.params.model_validate(params), prepared)
    return Artifact(plugin.NAME, made, "")


def outputs(predict: Any, model: Model, images: Floats) -> Outputs:
    return named_outputs(predict(images), task_of(model.info).outputs)


@of_each_plugin
@pytest.mark.parametrize(
    ("name", "columns", "meaning"),
    [
        ("yolov8n-seg", 4 + 80 + 32, "then one mask coefficient per prototype"),
        ("yolov8n-obb", 4 + 80 + 1, "then the angle in radians, clockwise as seen"),
        ("yolo26n-pose", 6 + 51, "score, class index, then per keypoint x, y in input pixels"),
        ("yolov8n-cls", 1000, "one probability per class, after softmax"),
    ],
)
def test_outputs_are_those_of_the_source(
    plugin: ModuleType,
    name: str,
    columns: int,
    meaning: str,
    model_of: Callable[[str], Model],
    tmp_path: Path,
) -> None:
    model = model_of(name)
    prepared = given(plugin, model, tmp_path / "work")
    artifact = run(plugin, model.source, "export", {"precision": "fp32", "batch": 2}, prepared)
    assert read_layers(artifact.path) == layer_parts(model.source.path)
    interface = plugin.describe(artifact)
    assert interface.layers.keys() == layer_parts(model.source.path).keys()
    task, one_to_one = model.info.task, model.info.head == "one-to-one"
    main = {"classify": (2, columns)}.get(
        task, (2, ANCHORS, columns) if one_to_one else (2, columns, ANCHORS)
    )
    shapes = [main, *([(2, 32, 16, 24)] if task == "segment" else [])]
    assert [each.shape for each in interface.outputs] == shapes
    assert [each.name for each in interface.outputs] == ["output0", "output1"][: len(shapes)]
    assert meaning in interface.outputs[0].meaning
    images = model.given.images.numpy()[[0, 1, 0]]  # more than a batch
    found = outputs(plugin.open(artifact, prepared.target, 1), model, images)
    assert np.array_equal(found[OUTPUT][0], found[OUTPUT][2])
    assert plugin.inspect(artifact.path).parameters <= model.info.parameters
    check(found, model, images, rows=one_to_one)


def check(found: Outputs, model: Model, images: Floats, *, rows: bool) -> None:
    wanted = outputs(yolodeploy_torch.open(model.source, Target(None), 1), model, images)  # type: ignore[arg-type]
    ours, theirs = (torch.from_numpy(each[OUTPUT][:2].copy()) for each in (found, wanted))
    if rows:
        with torch.no_grad():
            made = exportable(model.source.path, model.size, 2, rows=True)(model.given.images)
        theirs = made[0] if isinstance(made, tuple) else made
        # which of two nearly equal scores goes first depends on the processor
        paired = pair_rows(theirs[0].numpy(), ours[0].numpy())
        assert len(paired.first) >= 0.95 * ANCHORS
        theirs, ours = theirs[:1, paired.first], ours[:1, paired.second]
    pixels, rest = task_differences(ours, theirs, model.info.task, rows)
    assert (pixels <= 0.02, rest <= 1e-4) == (True, True), (pixels, rest)
    if model.info.task == "segment":
        delta = np.abs(found[PROTOTYPES] - wanted[PROTOTYPES]).max()
        assert delta <= 1e-4 * max(1, np.abs(wanted[PROTOTYPES]).max())


@of_each_plugin
@pytest.mark.parametrize(
    ("name", "floats", "most"),
    [
        ("yolov8n-seg", {"onnxruntime": 2, "openvino": 1}, 0.2),  # random prototypes are noisy
        ("yolov8n-cls", {"onnxruntime": 0, "openvino": 0}, 0.06),
    ],
)
def test_8_bits_keep_the_outputs(
    plugin: ModuleType,
    name: str,
    floats: dict[str, int],
    most: float,
    model_of: Callable[[str], Model],
    view: Dataset,
    tmp_path: Path,
) -> None:
    """All layers but the mean of distributions, and in ONNX Runtime transposed convolutions, compute in 8 bits."""
    model, task = model_of(name), task_of(model_of(name).info)
    prepared = given(plugin, model, tmp_path / "work", view)
    exact = run(plugin, model.source, "export", {"precision": "fp32"}, prepared)
    params = {"spare_dominant": False} if plugin is yolodeploy_onnxruntime else {}
    integer = run(
        plugin, exact, "quantize", params, replace(prepared, work=context(tmp_path / "int8").work)
    )
    forms = Counter(plugin.describe(integer).layers.values())
    assert forms["fp32"] == floats[plugin.NAME]
    assert forms.keys() <= {"fp32", "int8"}
    assert [each.shape for each in plugin.describe(integer).outputs] == [
        each.shape for each in plugin.describe(exact).outputs
    ]
    images = np.concatenate(list(view.letterboxed(model.size)))
    both = []
    for artifact in (exact, integer):
        made = outputs(plugin.open(artifact, prepared.target, 1), model, images)
        both.append([{key: made[key][n] for key in made} for n in range(len(images))])
    assert 0 < task.noise(*both, "anchors") < most
    if plugin is yolodeploy_onnxruntime and name.endswith("cls"):
        assert optimized(integer, tmp_path)["QGemm"] == 1


def optimized(artifact: Artifact, work: Path) -> Counter[str]:
    """How often each operator occurs in what ONNX Runtime makes of a file."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(work / "optimized.onnx")
    onnxruntime.InferenceSession(str(artifact.path / "model.onnx"), options)
    return Counter(node.op_type for node in onnx.load(work / "optimized.onnx").graph.node)


def test_what_training_left_in_float_stays_so(
    model_of: Callable[[str], Model], tmp_path: Path
) -> None:
    """Training learns ranges of what convolutions read, but not of what a matrix reads."""
    plugin, model = yolodeploy_onnxruntime, model_of("yolov8n-cls")
    prepared = given(plugin, model, tmp_path / "work")
    artifact = run(plugin, model.source, "export", {"precision": "fp32"}, prepared)
    *convolutions, matrix = read_layers(artifact.path)
    ranges = {name: Range(low=-8, high=8) for name in convolutions}
    Ranges(reads=ranges, makes=ranges).write(artifact.path)
    prepared = given(plugin, model, tmp_path / "int8")
    integer = run(plugin, artifact, "quantize", {}, prepared)
    forms = plugin.describe(integer).layers
    assert forms == {**dict.fromkeys(convolutions, "int8"), matrix: "fp32"}


def test_parts_of_a_task_can_stay_in_float(
    model_of: Callable[[str], Model], view: Dataset, tmp_path: Path
) -> None:
    plugin, model = yolodeploy_onnxruntime, model_of("yolov8n-seg")
    exact = run(
        plugin, model.source, "export", {"precision": "fp32"}, given(plugin, model, tmp_path / "e")
    )
    kept = {"keep_float": ["head.proto", "dfl", "decode"], "spare_dominant": False}
    integer = run(plugin, exact, "quantize", kept, given(plugin, model, tmp_path / "int8", view))
    parts, forms = read_layers(integer.path), plugin.describe(integer).layers
    assert {name for name in parts if forms[name] == "fp32"} == {
        name for name, part in parts.items() if part in ("head.proto", "dfl")
    }
