"""Artifacts that take several images at a time: the same output as image by image, float and int8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_openvino import run
from test_openvino_quantize import (
    ICELAKE,
    PROBLEM,
    quantize,
    read,
    source,  # noqa: F401 - a fixture
)
from torch_support import DEMO, context

import yolodeploy_openvino as backend
from yolodeploy.backend import Artifact, Target
from yolodeploy.errors import PlanRefused
from yolodeploy.planning import plan_recipe
from yolodeploy_openvino.params import Export

pytestmark = pytest.mark.skipif(
    PROBLEM is not None or not DEMO.is_file(), reason=PROBLEM or f"{DEMO} is missing"
)
BATCH = 4
Artifacts = Mapping[tuple[str, int], Artifact]


@pytest.fixture(scope="module")
def artifacts(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:  # noqa: F811
    """By form ("fp32", "int8") and batch."""
    work, found = tmp_path_factory.mktemp("batch"), {}
    for batch in (1, BATCH):
        params = Export(precision="fp32", batch=batch)
        folder = backend.STEPS[0].run(source, params, context(work / f"{batch}"))
        found["fp32", batch] = Artifact("openvino", folder, "")
        found["int8", batch] = quantize(found["fp32", batch], work / f"int8 {batch}")
    return found


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """One batch and a half."""
    return np.random.default_rng(0).random((BATCH + 2, 3, 160, 160), dtype=np.float32)


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_output_is_that_of_single_images(
    form: str, artifacts: Artifacts, images: NDArray[np.float32]
) -> None:
    single, batched = (run(backend, artifacts[form, batch], images) for batch in (1, BATCH))
    assert np.abs(batched - single).max() <= 1e-4
    assert np.abs(single[0] - single[-1]).max() > 1  # the images do differ


def test_the_file_says_how_many_images_it_takes(artifacts: Artifacts) -> None:
    interface = backend.describe(artifacts["int8", BATCH])
    shapes = [tensor.shape for tensor in (*interface.inputs, *interface.outputs)]
    assert shapes == [(BATCH, 3, 160, 160), (BATCH, 9, 525)]
    assert interface.batch == BATCH
    assert "takes 4 images at a time: fill up a smaller batch" in interface.note
    assert "at a time" not in backend.describe(artifacts["int8", 1]).note


def test_ranges_and_biases_do_not_depend_on_the_batch(artifacts: Artifacts) -> None:
    def constants(artifact: Artifact) -> dict[str, NDArray[np.float32]]:
        return {
            node.get_friendly_name(): node.data
            for node in read(artifact).get_ordered_ops()
            if node.get_type_name() == "Constant" and node.get_element_type().is_real()
        }

    single, batched = (constants(artifacts["int8", batch]) for batch in (1, BATCH))
    assert single.keys() == batched.keys()
    assert len(single) > 200
    assert all(np.array_equal(single[name], batched[name]) for name in single)


@pytest.mark.parametrize("mode", ["NUMPY", "BIDIRECTIONAL"])
def test_a_batch_changes_where_axes_are_split_and_values_spread(mode: str) -> None:
    """Area attention reshapes the batch together with areas, and top-k spreads indices over it."""
    from yolodeploy_openvino.export import set_batch
    from yolodeploy_openvino.toolchain import openvino

    ov = openvino()
    ops = ov.opset13
    given = ops.parameter([BATCH, 2, 6], np.float32)
    areas = ops.reduce_sum(ops.reshape(given, [BATCH * 2, 3, 2], False), 1, True)
    summed = ops.reshape(areas, [BATCH, 4, 1], False)
    model = ov.Model([ops.broadcast(summed, [BATCH, 4, 3], broadcast_spec=mode)], [given])
    values = np.random.default_rng(1).random((BATCH, 2, 6), dtype=np.float32)

    def output(part: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(ov.Core().compile_model(model, "CPU")(part)[0])

    whole = output(values)
    set_batch(model, 1)
    parts = [output(values[number : number + 1]) for number in range(BATCH)]
    assert np.array_equal(np.concatenate(parts), whole)
    set_batch(model, BATCH)
    assert np.array_equal(output(values), whole)


def test_serving_runs_full_batches(artifacts: Artifacts, images: NDArray[np.float32]) -> None:
    server = backend.serve(artifacts["int8", BATCH], Target(ICELAKE), 2)
    assert server.batch == BATCH
    assert server.requests >= 1
    assert 0 < server(images[:BATCH], 2 * server.requests) < 10


def test_a_batch_of_one_changes_no_id() -> None:
    assert Export(batch=1).model_dump(mode="json") == {"precision": "fp16"}
    assert Export(batch=8).model_dump(mode="json") == {"precision": "fp16", "batch": 8}
    assert backend.STEPS[0].reference
    assert backend.STEPS[0].reference(Export(batch=8)) == Export(precision="fp32")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("pixel-8", r"8:14: `batch` gains nothing here: ncnn has no batch dimension.*Remove it"),
        ("iphone-16", r"8:14: `batch` gains nothing here: a phone gets one camera frame.*Remove"),
        ("core-ultra-7", r"8:5: `batch: 8` gains nothing on the NPU of Intel Core Ultra.*Remove"),
    ],
)
def test_a_target_that_gains_nothing_refuses(device: str, reason: str, tmp_path: Path) -> None:
    recipe = tmp_path / "many.yaml"
    recipe.write_text(
        "model:\n  weights: model.pt\n  imgsz: 160\ndata:\n  path: data.yaml\n"
        f"target: {device}\nsteps:\n  - export: {{batch: 8}}\n",
        encoding="utf-8",
    )
    with pytest.raises(PlanRefused, match=rf"many\.yaml:{reason}"):
        plan_recipe(recipe, tmp_path / "cache")
