"""8-bit activations in Core ML packages: ranges, the form of the file, what it computes and costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_coreml_export import SIDE, context, export, head, load
from test_coreml_weights import files, operations, size

import yolodeploy_coreml as plugin
from yolodeploy.backend import Artifact, Target
from yolodeploy.compress import read_layers
from yolodeploy.compress.layer_cost import measure_layers
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import DataError, PlanRefused, StepFailed, YolodeployError
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy_coreml.activations.ranges import Histogram
from yolodeploy_coreml.mlpackage.layers import block_of, layers
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package
from yolodeploy_coreml.params import Quantize

PHONE = next(device for device in plugin.DEVICES if device.name == "iphone-13")
STEP = next(step for step in plugin.STEPS if step.name == "quantize")

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)


@pytest.fixture(scope="module")
def images(demo: Any) -> Dataset:
    return load_view(demo.data, View(split="train", images=6), 0)


@pytest.fixture(scope="module")
def source(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(demo.weights, tmp_path_factory.mktemp("source") / "load")


@pytest.fixture(scope="module")
def plain(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export(source, tmp_path_factory.mktemp("plain") / "w", "17")


def quantize(
    given: Artifact, work: Path, view: Dataset, version: str = "17", **wanted: object
) -> Artifact:
    made = replace(context(work, (), version), data={"calibration": view})
    return Artifact("mlpackage", STEP.run(given, Quantize.model_validate(wanted), made), "")


@pytest.fixture(scope="module")
def quantized(
    plain: Artifact, images: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    return quantize(plain, tmp_path_factory.mktemp("quantized") / "w", images)


@pytest.fixture(scope="module")
def batch(demo: Any) -> np.ndarray:
    view = load_view(demo.data, View(split="val", images=4), 0)
    return np.concatenate(list(view.letterboxed(ImageShape.square(SIDE))))


def noise(reference: Artifact, artifact: Artifact, batch: np.ndarray) -> float:
    return output_noise(head(reference, batch), head(artifact, batch))


def by_output(artifact: Artifact) -> dict[str, Any]:
    return {out.name: op for op in operations(artifact) for out in op.outputs}


def operand(op: Any, key: str) -> str:
    return str(op.inputs[key].arguments[0].name)


def test_size_and_output(plain, quantized, batch) -> None:
    assert size(quantized) < 3_300_000 < 0.55 * size(plain)
    assert 1e-5 < noise(plain, quantized, batch) < 0.003
    assert read_package(quantized.path / PACKAGE).spec.specificationVersion == 8


def test_every_convolution_before_the_decoder_is_eight_bit(quantized) -> None:
    made_by = by_output(quantized)
    for layer in layers(
        block_of(read_package(quantized.path / PACKAGE).spec), read_layers(quantized.path)
    ):
        op = made_by[layer.output]
        if layer.part == "dfl":
            assert made_by[operand(op, "x")].type == "softmax"
            assert made_by[layer.weight].type == "const"
            continue
        pair = made_by[operand(op, "x")]
        assert (pair.type, made_by[operand(pair, "input")].type) == ("dequantize", "quantize")
        assert made_by[layer.weight].type == "constexpr_affine_dequantize"
    forms = plugin.describe(quantized).layers
    assert sorted(forms.values()) == ["fp16", *["int8"] * 63]
    assert forms["model.22.dfl.conv"] == "fp16"


def test_a_value_has_one_grid_and_the_decoder_reads_floats(quantized) -> None:
    found = operations(quantized)
    rounded = [operand(op, "input") for op in found if op.type == "quantize"]
    assert len(rounded) == len(set(rounded))
    last = next(index for index, op in enumerate(found) if op.type == "reshape")
    assert not [op for op in found[last:] if op.type in {"quantize", "dequantize"}]
    silus = [op for op in found if op.type == "silu"]
    made_by = by_output(quantized)
    assert {made_by[operand(op, "x")].type for op in silus} == {"dequantize"}


def test_pixels_are_held_to_all_that_they_can_be(quantized) -> None:
    """Not to the calibration images, which may be dark: 0..1 in 255 steps is exact."""
    made_by = by_output(quantized)
    first = next(op for op in operations(quantized) if op.type == "conv")
    pair = made_by[operand(first, "x")]
    scale, zero = (made_by[operand(pair, key)].attributes["val"] for key in ("scale", "zero_point"))
    assert np.frombuffer(scale.immediateValue.tensor.bytes.values, "<f2") == np.float16(1 / 255)
    assert np.frombuffer(zero.immediateValue.tensor.bytes.values, np.int8) == -128


def test_layout_is_that_of_coremltools(plain, quantized, monkeypatch, tmp_path) -> None:
    """Operations around a convolution, operands and their types as it writes them itself."""
    from yolodeploy_coreml.toolchain import coremltools, quiet

    ct = coremltools()
    import coremltools.optimize.coreml as cto

    values = [out.name for op in operations(plain) for out in op.outputs]
    ranges = {name: {"rmin": -1.0, "rmax": 3.0} for name in values}
    first = next(op.outputs[0].name for op in operations(plain) if op.type == "conv")
    settings = cto.OpLinearQuantizerConfig(mode="linear", weight_threshold=0)
    with quiet():
        module = cto._post_training_quantization
        monkeypatch.setattr(module, "_get_activation_calibration_stats", lambda *_: ranges)
        model = ct.models.MLModel(str(plain.path / PACKAGE), skip_model_load=True)
        config = cto.OptimizationConfig(op_name_configs={first: settings})
        model = cto.linear_quantize_activations(model, config, [{"image": None}])
        model.save(str(tmp_path / "theirs.mlpackage"))
    theirs = read_package(tmp_path / "theirs.mlpackage")
    ours = read_package(quantized.path / PACKAGE)
    shapes = [_first_convolution(block_of(package.spec)) for package in (ours, theirs)]
    assert shapes[0] == shapes[1]


def _first_convolution(block: Any) -> list[Any]:
    """What lies between the pixels and the first activation function, without names."""
    made_by = {out.name: op for op in block.operations for out in op.outputs}
    op, found = next(op for op in block.operations if op.type == "silu"), []
    while op.type != "cast":
        types = {
            key: str(made_by[operand(op, key)].outputs[0].type) for key in op.inputs if key != "x"
        }
        found.append((op.type, types if op.type != "conv" else None, str(op.outputs[0].type)))
        op = made_by[operand(op, "input" if op.type.endswith("quantize") else "x")]
    return found


def test_coremltools_reads_it(quantized, tmp_path) -> None:
    """Its own parser builds the program again, types of all operands checked."""
    from coremltools.converters.mil.frontend.milproto import load as milproto

    from yolodeploy_coreml.toolchain import coremltools, quiet

    ct = coremltools()
    with quiet():
        model = ct.models.MLModel(str(quantized.path / PACKAGE), skip_model_load=True)
        program = milproto.load(
            model._spec, model._spec.specificationVersion, file_weights_dir=model.weights_dir
        )
    types = [op.op_type for op in program.functions["main"].operations]
    assert types.count("quantize") == types.count("dequantize") > 100


def test_other_forms_of_the_file(source, images, batch, tmp_path) -> None:
    """iOS 18's operands, fp32 values and a pipeline with suppression, all at once."""
    given = export(source, tmp_path / "e", "18", precision="fp32", nms=True)
    made = quantize(given, tmp_path / "q", images, "18")
    assert read_package(made.path / PACKAGE).spec.WhichOneof("Type") == "pipeline"
    assert noise(given, made, batch) < 0.003
    assert set(plugin.describe(made).layers.values()) == {"int8", "fp32"}
    kinds = {op.type for op in operations(made) if op.type.startswith("constexpr")}
    assert kinds == {"constexpr_blockwise_shift_scale"}


def test_selected_convolutions_stay_float(plain, images, tmp_path) -> None:
    kept = ("head.last", "dfl", "decode", "model.2.*")
    forms = plugin.describe(quantize(plain, tmp_path / "w", images, keep_float=kept)).layers
    floats = {name for name, form in forms.items() if form == "fp16"}
    assert len(floats) == 6 + 1 + 4
    assert {name for name in forms if name.startswith("model.2.")} < floats


def test_methods_differ(plain, quantized, images, tmp_path) -> None:
    made = {
        method: quantize(plain, tmp_path / method, images, method=method)
        for method in ("minmax", "percentile")
    }
    assert len({str(files(one)) for one in (*made.values(), quantized)}) == 3


def test_subset_takes_images_evenly(plain, images, tmp_path) -> None:
    half = replace(images, images=images.images[::2])
    first = quantize(plain, tmp_path / "a", images, subset=3)
    assert files(first) == files(quantize(plain, tmp_path / "b", half))


def test_bytes_do_not_depend_on_threads(plain, quantized, images, tmp_path) -> None:
    made = replace(context(tmp_path / "w", (), "17"), data={"calibration": images}, threads=2)
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        assert files(Artifact("", STEP.run(plain, Quantize(), made), "")) == files(quantized)
    finally:
        torch.set_num_threads(before)


def test_probe_costs_add_up(plain, images, tmp_path) -> None:
    kept = ("backbone", "neck", "dfl", "decode")
    made = replace(context(tmp_path / "w", (), "17"), data={"calibration": images})
    assert STEP.probe is not None
    probe = STEP.probe(plain, Quantize(keep_float=kept), made)
    assert len(probe.trials) == 18
    costs = measure_layers(probe, plain, _open, images, made, images=2)
    whole = quantize(plain, tmp_path / "q", images, keep_float=kept)
    view = np.concatenate(list(images.spread(2).letterboxed(ImageShape.square(SIDE))))
    assert 0.5 < sum(cost.noise for cost in costs) / noise(plain, whole, view) < 2


def test_budget_keeps_the_costliest_convolutions_float(plain, images, tmp_path) -> None:
    kept = ("backbone", "neck", "dfl", "decode", "model.22.cv2.*")
    made = quantize(plain, tmp_path / "w", images, keep_float=kept, min_sqnr=36.0)
    forms = plugin.describe(made).layers
    chosen = [name for name, form in forms.items() if form == "int8"]
    assert 0 < len(chosen) < 9
    view = np.concatenate(list(images.spread(4).letterboxed(ImageShape.square(SIDE))))
    assert noise(plain, made, view) <= 10**-3.6 * 1.001  # what the choice was held to


def test_budget_that_cannot_be_met_says_what_was_reached(plain, images, tmp_path) -> None:
    message = r"no choice of layers meets `min_sqnr: 90`\. The best was \d\d\.\d dB, with 1 of 3 layers in int8"
    kept = ("backbone", "neck", "dfl", "decode", "model.22.cv3.*", "model.22.cv2.[12].*")
    with pytest.raises(PlanRefused, match=message):
        quantize(plain, tmp_path / "w", images, keep_float=kept, min_sqnr=90.0)


def _open(artifact: Artifact) -> Any:
    return plugin.open(artifact, Target(PHONE, "17"), 1)


@pytest.mark.parametrize(
    ("wanted", "count", "error", "message"),
    [
        ({}, 1, DataError, "1 calibration image says nothing about the range"),
        ({"subset": 9}, 6, DataError, "`subset: 9` asks for more than the 6 calibration images"),
        ({"keep_float": ("dfl", "decode", "tail")}, 6, PlanRefused, "`keep_float: tail` matches"),
    ],
)
def test_requests_that_cannot_be_met(
    plain, images, tmp_path, wanted, count, error, message
) -> None:
    with pytest.raises(error, match=message):
        quantize(plain, tmp_path / "w", replace(images, images=images.images[:count]), **wanted)


def test_what_is_compressed_already_is_refused(plain, quantized, images, tmp_path) -> None:
    with pytest.raises(PlanRefused, match=r"quantized already\. Remove the second `quantize`"):
        quantize(quantized, tmp_path / "a", images)
    step = next(step for step in plugin.STEPS if step.name == "palettize")
    folder = step.run(plain, step.params(), context(tmp_path / "p", (), "17"))
    with pytest.raises(PlanRefused, match=r"compressed already; `quantize` takes float ones"):
        quantize(Artifact("mlpackage", folder, ""), tmp_path / "b", images)


def test_an_unreadable_image_is_named(plain, images, tmp_path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    view = replace(images, images=(*images.images, broken))
    with pytest.raises(YolodeployError, match=r"broken\.jpg"):
        quantize(plain, tmp_path / "w", view)


@pytest.mark.parametrize("version", [None, "15", "16.4"])
def test_systems_without_eight_bit_activations_are_refused(version) -> None:
    reason = plugin.refuse(STEP, Quantize(), Target(PHONE, version))
    assert reason is not None
    assert 'os: "17"' in reason
    assert plugin.refuse(STEP, Quantize(), Target(PHONE, "17.2")) is None


def test_leaving_the_decoder_out_is_refused() -> None:
    reason = plugin.refuse(STEP, Quantize(keep_float=("dfl",)), Target(PHONE, "17"))
    assert reason is not None
    assert "Write keep_float: [dfl, decode]." in reason


class TestRanges:
    """The histogram and what is chosen from it, on values whose best grid is known."""

    def test_reach_grows_without_losing_counts(self) -> None:
        from yolodeploy_coreml.activations.ranges import Histogram

        histogram = Histogram(np.array([1.0, 3.0]))
        for scale in (1e-5, 1.0, 700.0):
            histogram.add(torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1) * scale)
        assert (histogram.low, histogram.high) == (-700, 700)
        assert histogram._counts.sum() == 3 * (1 + 3)
        np.testing.assert_allclose(histogram.means, [-233.667, 233.667], rtol=1e-5)

    def test_grid_meets_zero_and_both_ends(self) -> None:
        from yolodeploy_coreml.activations.ranges import grid

        made = grid(-0.28, 5.0, half=True)
        ends = made.rounded(np.array([-9.0, 0.0, 9.0]))
        assert ends[1] == 0
        assert ends[0] == pytest.approx(-0.28, abs=made.scale)
        assert ends[2] == pytest.approx(5, abs=made.scale)
        assert made.scale == float(np.float16(made.scale))

    def test_each_method_does_what_it_says(self) -> None:
        from yolodeploy_coreml.activations.ranges import Histogram

        generator = torch.Generator().manual_seed(0)
        values = torch.randn(1, 1, 250, 250, generator=generator) ** 3
        histogram = Histogram(np.ones(1))
        histogram.add(values)
        exact = values.double().numpy().ravel()
        grids = {m: histogram.choose(m, None, half=False) for m in ("mse", "percentile", "minmax")}
        errors = {m: np.square(made.rounded(exact) - exact).mean() for m, made in grids.items()}
        assert errors["mse"] < min(errors["percentile"], errors["minmax"])
        tops = {method: made.rounded(np.array([1e9]))[0] for method, made in grids.items()}
        assert tops["minmax"] == pytest.approx(exact.max(), rel=0.01)
        assert tops["percentile"] == pytest.approx(np.quantile(exact, 0.9999), rel=0.05)

    def test_error_behind_silu_spends_no_steps_below_minus_ten(self) -> None:
        from yolodeploy_coreml.activations.ranges import Histogram, silu

        histogram = Histogram(np.ones(1))
        histogram.add(torch.linspace(-40, 10, 40_000).reshape(1, 1, 200, 200))
        straight, behind = (histogram.choose("mse", curve, half=False) for curve in (None, silu))
        assert straight.rounded(np.array([-99.0]))[0] < -36
        assert -12 < behind.rounded(np.array([-99.0]))[0] < -4

    def test_important_channels_decide(self) -> None:
        from yolodeploy_coreml.activations.ranges import Histogram

        generator = torch.Generator().manual_seed(0)
        quiet = torch.randn(1, 1, 200, 200, generator=generator)
        loud = quiet.flip(-1) * torch.where(
            torch.rand(quiet.shape, generator=generator) > 0.999, 30, 1
        )
        tops = []
        for weights in ([1.0, 0.0], [0.0, 1.0]):
            histogram = Histogram(np.array(weights))
            histogram.add(torch.cat((quiet, loud), 1))
            tops.append(histogram.choose("mse", None, half=False).rounded(np.array([1e9]))[0])
        assert tops[0] < 6 < 10 < tops[1]


@pytest.mark.coco
def test_drop_on_coco(coco: Any, tmp_path: Path) -> None:
    """At half of the size that the model is for, where an image takes a quarter of the time."""
    from yolodeploy.tasks import primary_score
    from yolodeploy.tasks.detection import Detect

    side = coco.imgsz // 2
    given = export(load(coco.weights, tmp_path / "load"), tmp_path / "plain", "17", side=side)
    view = load_view(coco.data, View(split="train", images=16), 0)
    made = replace(context(tmp_path / "q", (), "17", side), data={"calibration": view})
    small = Artifact("mlpackage", STEP.run(given, Quantize(), made), "")
    truth = load_view(coco.data, View(images=24), 0)  # the bench takes all 128
    plain, ours = (
        primary_score(
            plugin.open(artifact, Target(PHONE, "17"), 1),
            truth,
            ImageShape.square(side),
            Detect(truth.names),
            "one-to-many",
        )
        for artifact in (given, small)
    )
    assert plain > 0.3
    assert plain - ours <= 0.015


def test_nothing_left_to_quantize_is_refused(plain, images, tmp_path) -> None:
    kept = ("backbone", "neck", "head", "dfl", "decode")
    with pytest.raises(PlanRefused, match="selects every convolution"):
        quantize(plain, tmp_path / "w", images, keep_float=kept)


def test_activations_that_are_not_finite_are_an_error() -> None:
    for value in (float("inf"), float("nan")):
        with pytest.raises(StepFailed, match="not finite on a calibration image"):
            Histogram(np.ones(1)).add(torch.full((1, 1, 2, 2), value))


def test_remedy_names_no_os_that_the_device_lacks() -> None:
    old = next(device for device in plugin.DEVICES if device.os_max and device.os_max < "17")
    reason = plugin.refuse(STEP, Quantize(), Target(old, old.os_max))
    assert reason is not None
    assert "Choose a device that runs iOS 17" in reason
