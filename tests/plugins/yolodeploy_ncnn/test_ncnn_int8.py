"""The `quantize` step: which layers compute in int8, with which numbers, and what it costs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_ncnn import FILES, IMGSZ, Built, build, digests, make_context, open_with
from test_ncnn_w8 import STEP as W8

import yolodeploy_ncnn as backend
from yolodeploy.backend import Artifact, Context, Device, Target
from yolodeploy.data.dataset import load_view
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy_ncnn import bin_file, model
from yolodeploy_ncnn.int8.calibrate import BINS, EDGES, Statistics, calibrate
from yolodeploy_ncnn.int8.clipping import errors, threshold
from yolodeploy_ncnn.int8.rounding import SAFE_SUM, round_weights
from yolodeploy_torch.model import layer_parts

STEP = next(step for step in backend.STEPS if step.name == "quantize")
KEPT = ("dfl", "decode")
MOST = ("backbone", "neck", *KEPT)  # leaves 18 layers, so that measuring each takes little time

pytestmark = pytest.mark.skipif(
    backend.problem() is not None, reason=backend.problem() or "ncnn is installed"
)


@pytest.fixture(scope="module")
def built(demo, tmp_path_factory) -> Built:
    return build(demo.weights, tmp_path_factory.mktemp("ncnn"))


@pytest.fixture(scope="module")
def make(built, demo, tmp_path_factory) -> Callable[..., Artifact]:
    """Run the step on the fp16 export with 8 calibration images."""
    kept: dict[str, object] = {}

    def memo(key: Mapping[str, object], compute: Callable[[], object]) -> object:
        name = json.dumps(key, sort_keys=True)
        if name not in kept:
            kept[name] = compute()
        return kept[name]

    def run(source: Artifact | None = None, **params: object) -> Artifact:
        context = calibrating(demo, tmp_path_factory.mktemp("int8") / "work")
        result = STEP.run(
            source or built.exports["fp16"],
            STEP.params.model_validate(params),
            replace(context, memo=memo),
        )
        return Artifact("ncnn", result, "")

    return run


def calibrating(demo, work: Path, images: int = 8) -> Context:
    view = load_view(demo.data, View(split="train"), 0).spread(images)
    return replace(make_context(work), data={"calibration": view})


@pytest.fixture(scope="module")
def whole(make) -> Artifact:
    """Every layer in int8 that may be."""
    return make(min_sqnr=None)


def test_all_but_decoding_in_int8(built, whole):
    forms = backend.describe(whole).layers
    assert forms == {
        name: "int8" if part != "dfl" else "fp16"
        for name, part in layer_parts(built.source.path).items()
    }
    before, after = model.read(built.exports["fp16"]), model.read(whole)
    assert (whole.path / FILES[0]).stat().st_size < 3_100_000
    for old, new in zip(before.graph.layers, after.graph.layers, strict=True):
        scaled = new.name in after.kernels and after.kernels[new.name].tag == bin_file.INT8
        assert new == (old.with_params({8: "2"}) if scaled else old)


def test_weights_are_the_rounded_ones_and_sums_are_bounded(built, whole):
    before, after = model.read(built.exports["fp16"]), model.read(whole)
    bounded = 0
    for name, block in after.kernels.items():
        if block.tag != bin_file.INT8:
            continue
        _, _, scales, _ = (b.floats(after.data) for b in after.blocks if b.layer.name == name)
        integers = block.floats(after.data).reshape(len(scales), -1)
        exact = before.kernels[name].floats(before.data).reshape(len(scales), -1)
        assert np.abs(integers - exact * scales[:, None]).max() < 0.501
        assert np.abs(integers).max() <= 127
        if (block.layer.number(1), block.layer.number(3)) == (3, 1):
            assert np.abs(integers).sum(1).max() <= SAFE_SUM
            bounded += int((np.abs(integers).max(1) < 127).sum())
        else:
            assert (np.abs(integers).max(1) == 127).all()
    assert bounded > 0


def test_a_channel_that_could_overflow_gets_a_smaller_scale():
    exact = np.stack([np.full(400, 0.5), np.linspace(-1, 1, 400)]).astype(np.float32)
    integers, scales = round_weights(exact, SAFE_SUM)
    assert np.abs(integers.astype(int)).sum(1).tolist() == [29_200, 25_472]
    assert scales[0] < 127 / 0.5
    assert scales[1] == 127
    step = np.float32(0.999)
    assert (
        np.rint(np.float64(0.5) * (scales[0] / step)) * 400 > SAFE_SUM
    )  # the scale before it is too large
    free, _ = round_weights(exact, None)
    assert free[0].tolist() == [127] * 400


def test_ncnn_computes_what_the_file_says(built, whole):
    """The first layer, recomputed from the file with integers, to the last bit but rounding order."""
    loaded = model.read(whole)
    kernel, bias, scales, (scale,) = (
        block.floats(loaded.data) for block in loaded.blocks if block.layer.name == "model.0.conv"
    )
    from yolodeploy_ncnn.runtime import NcnnPredictor

    output = loaded.kernels["model.0.conv"].layer.outputs[0]
    ((_, got),) = NcnnPredictor(whole.path, 1).blobs(built.images[0], [output])
    padded = np.pad(np.floor(built.images[0] * scale + np.float32(0.5)), ((0, 0), (1, 1), (1, 1)))
    shape = (len(scales), 3, 3, 3)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    sums = np.einsum("chwij,ocij->ohw", windows, kernel.reshape(shape), optimize=True)
    wanted = sums / (scales * scale)[:, None, None] + bias[:, None, None]
    assert np.abs(got - wanted).max() < 1e-5


@pytest.mark.parametrize(("method", "most"), [("mse", 0.012), ("percentile", 0.012), ("kl", 0.3)])
def test_noise_of_each_method(built, demo, make, whole, method, most):
    default = method == STEP.params().method
    noise = measured(built, demo, whole if default else make(min_sqnr=None, method=method))
    assert 1e-5 < noise < most


def measured(built: Built, demo, artifact: Artifact) -> float:
    """Relative noise of the output on 12 validation images."""
    view = load_view(demo.data, View(split="val"), 0).spread(12)
    images = np.concatenate(list(view.letterboxed(ImageShape.square(IMGSZ))))
    return output_noise(
        open_with(backend, built.exports["fp32"])(images), open_with(backend, artifact)(images)
    )


def test_bias_correction_centres_the_output(built, demo, make, whole):
    plain = make(min_sqnr=None, bias_correction=False)
    assert shift(built, demo, whole) < 0.5 * shift(built, demo, plain)


def shift(built: Built, demo, artifact: Artifact) -> float:
    """Mean size of the first layers' mean error per channel, on the calibration images."""
    view = load_view(demo.data, View(split="train"), 0).spread(8)
    context = make_context(Path(tempfile.mkdtemp()) / "work")
    exact, rough = (
        calibrate(model.read(given), view, context) for given in (built.exports["fp16"], artifact)
    )
    reads = list(exact)[1:8]
    return sum(float(np.abs(exact[b].mean - rough[b].mean).mean()) for b in reads)


def test_a_budget_keeps_costly_layers_float(built, demo, make):
    strict = make(min_sqnr=32.0, keep_float=MOST)
    forms = backend.describe(strict).layers
    kept = {name for name, form in forms.items() if form == "fp16" and ".22." in name}
    assert 2 <= len(kept) <= 12
    assert measured(built, demo, strict) < measured(
        built, demo, make(min_sqnr=None, keep_float=MOST)
    )
    assert digests(make(min_sqnr=32.0, keep_float=MOST).path) == digests(strict.path)


def test_a_budget_that_nothing_keeps_says_the_best(make):
    with pytest.raises(
        PlanRefused,
        match=r"no choice of layers meets `min_sqnr: 70`\. The best was \d\d\.\d dB, with \d+ of 18 layers",
    ):
        make(min_sqnr=70.0, keep_float=MOST)


def test_selectors(make):
    forms = backend.describe(
        make(min_sqnr=None, keep_float=["head.last", "model.2.*", *KEPT])
    ).layers
    kept = {name for name, form in forms.items() if form == "fp16"}
    assert len(kept) == 6 + 4 + 1
    assert {"model.2.m.0.cv1.conv", "model.22.cv3.2.2", "model.22.dfl.conv"} <= kept
    with pytest.raises(PlanRefused, match="selects every convolution"):
        make(keep_float=["*", *KEPT])


def test_w8_afterwards_compresses_what_stayed_float(make, tmp_path):
    mixed = make(min_sqnr=None, keep_float=["model.7.*", *KEPT])
    small = Artifact("ncnn", W8.run(mixed, W8.params(), make_context(tmp_path / "w")), "")
    before, after = (backend.describe(artifact).layers for artifact in (mixed, small))
    assert {name: after[name] for name in after if after[name] != before[name]} == {
        "model.7.conv": "8-bit codebook"
    }


def test_codebooks_and_int8_are_refused_as_input(built, make, whole, tmp_path):
    coded = W8.run(built.exports["fp16"], W8.params(), make_context(tmp_path / "w"))
    with pytest.raises(PlanRefused, match="Put `w8` after `quantize`"):
        make(Artifact("ncnn", coded, ""))
    with pytest.raises(PlanRefused, match="Remove the second `quantize`"):
        make(whole)


def test_too_many_images_asked_for(make):
    with pytest.raises(DataError, match="`subset: 9` asks for more than the 8"):
        make(subset=9)


@pytest.mark.parametrize("device", backend.DEVICES, ids=lambda device: device.name)
def test_devices_without_a_dot_product_are_refused(device: Device):
    said = backend.refuse(STEP, STEP.params(), Target(device))
    assert (said is not None and "se `w8`" in said) == (
        device.name in {"raspberry-pi-4", "android", "arm-linux"}
    )
    assert backend.refuse(W8, W8.params(), Target(device)) is None


def test_decoding_in_int8_is_refused():
    params = STEP.params.model_validate({"keep_float": ["head.last"]})
    said = backend.refuse(STEP, params, Target(backend.DEVICES[0])) or ""
    assert "keep_float: [head.last, dfl, decode]" in said


def test_statistics_count_every_value():
    rng = np.random.default_rng(0)
    blob = rng.normal(0, 3, (5, 40, 30)).astype(np.float32)
    blob[2] = 0
    found = Statistics.of(5)
    found.add(blob)
    found.add(2 * blob)
    assert found.counts.sum((1, 2)).tolist() == [2400] * 5
    assert found.count == 2400
    assert found.peak == np.abs(2 * blob).max()
    assert np.allclose(found.mean, 1.5 * blob.mean((1, 2)), rtol=1e-5)
    assert found.counts[2, 0, 0] == 2400
    negative = (blob[0] < 0).sum() * 2
    assert found.counts[0, 1].sum() == negative
    middle = np.searchsorted(EDGES, 1.0)
    both = np.concatenate([np.abs(blob[0]).ravel(), np.abs(2 * blob[0]).ravel()])
    assert found.counts[0, :, middle:].sum() == (both >= 1).sum()
    assert len(EDGES) == BINS + 1


def test_thresholds_weigh_rounding_against_cutting_off():
    rng = np.random.default_rng(0)
    found = Statistics.of(2)
    blob = rng.normal(0, 1, (2, 200, 500)).astype(np.float32)
    blob[1] *= 0.1
    blob[0, 0, 0] = 20
    found.add(blob)
    chosen = {m: threshold(found, np.array([1.0, 1.0]), m) for m in ("mse", "kl", "percentile")}
    assert 2 < chosen["kl"] < chosen["percentile"] < 5
    quiet = threshold(found, np.array([0.0, 1.0]), "mse")
    assert 0.3 < quiet < 0.6  # only the quiet channel counts

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.square(np.clip(np.rint(blob / step), -127, 127) * step - blob).sum())

    best = min(np.geomspace(1, 50, 200), key=error)
    assert error(chosen["mse"]) < 1.02 * error(best)
    mean, square = errors(4.0)
    large = np.searchsorted(EDGES, 8.0)
    assert mean[large] == pytest.approx(4 - EDGES[large : large + 2].mean())
    assert square[large] == pytest.approx(mean[large] ** 2, rel=0.01)


def test_a_blob_of_zeros_has_a_threshold():
    found = Statistics.of(3)
    found.add(np.zeros((3, 4, 4), np.float32))
    assert threshold(found, np.ones(3), "mse") == 1.0


@pytest.mark.coco
def test_figures_on_coco(coco, tmp_path, monkeypatch):
    """Size of the whole model in int8, and its noise."""
    monkeypatch.setattr("test_ncnn.IMGSZ", coco.imgsz)
    built = build(coco.weights, tmp_path / "float")
    view = load_view(coco.data, View(split="train"), 0)
    context = replace(
        make_context(tmp_path / "w"),
        imgsz=ImageShape.square(coco.imgsz),
        data={"calibration": view.spread(8)},
    )
    params = STEP.params.model_validate({"min_sqnr": None})
    made = Artifact("ncnn", STEP.run(built.exports["fp16"], params, context), "")
    assert (made.path / FILES[0]).stat().st_size <= 3_400_000
    images = np.concatenate(list(view.spread(4).letterboxed(ImageShape.square(coco.imgsz))))
    plain, rough = (open_with(backend, a)(images) for a in (built.exports["fp32"], made))
    assert output_noise(plain, rough) < 0.03
