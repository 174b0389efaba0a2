"""Error compensation, bits per layer and budgets: what is chosen, what it costs, what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_coreml_export import SIDE, context, export, head, load
from test_coreml_weights import size

import yolodeploy_coreml as plugin
from yolodeploy.backend import Artifact, Target
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy_coreml.weights.bit_allocation import (
    Option,
    least_noise,
    least_size,
    noise_of,
    size_of,
)

STEPS = {step.name: step for step in plugin.STEPS}
PHONE = next(device for device in plugin.DEVICES if device.name == "iphone-13")
# All but the branches for small objects, so that a test takes a second.
MOST = ["dfl", "decode", "backbone", "neck", "model.22.cv?.1.*", "model.22.cv?.2.*"]
SMALL = [f"model.22.cv{b}.0.{i}" for b in (2, 3) for i in ("0.conv", "1.conv", "2")]

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)


@pytest.fixture(scope="module")
def exports(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("exports")
    source = load(demo.weights, folder / "load")
    made = {version: export(source, folder / version, version) for version in ("16", "18")}
    return {**made, "nms": export(source, folder / "nms", "16", nms=True)}


@pytest.fixture(scope="module")
def calibration(demo: Any) -> Dataset:
    return load_view(demo.data, View(split="train", images=6), 0)


@pytest.fixture(scope="module")
def images(demo: Any) -> np.ndarray:
    return np.concatenate(
        list(load_view(demo.data, View(images=4), 0).letterboxed(ImageShape.square(SIDE)))
    )


def compress(
    artifact: Artifact,
    work: Path,
    view: Dataset,
    name: str = "palettize",
    version: str = "16",
    **wanted: object,
) -> Artifact:
    step = STEPS[name]
    params = step.params.model_validate(wanted)
    assert plugin.refuse(step, params, Target(PHONE, version)) is None
    prepared = context(work, (), version)
    if step.needs(params):
        prepared = replace(prepared, data={"calibration": view})
    return Artifact("mlpackage", step.run(artifact, params, prepared), "")


def layers(artifact: Artifact) -> Mapping[str, str]:
    return plugin.describe(artifact).layers


def noise(artifact: Artifact, plain: Artifact, images: np.ndarray) -> float:
    return output_noise(head(plain, images), head(artifact, images))


@pytest.mark.parametrize(
    ("name", "version", "wanted", "gain"),
    [
        ("palettize", "16", {"bits": 6}, 0.7),
        ("palettize", "18", {"bits": 3, "group_size": 16}, 0.7),
        ("palettize", "16", {"bits": 4, "mode": "uniform"}, 0.7),
        ("quantize_weights", "18", {"bits": 4}, 0.7),
        ("quantize_weights", "16", {}, 0.7),
    ],
)
def test_compensation_removes_noise_at_the_same_size(
    exports, calibration, images, tmp_path, name, version, wanted, gain
) -> None:
    plain = exports[version]
    made = [
        compress(
            plain,
            tmp_path / f"{on}",
            calibration,
            name,
            version,
            keep_float=MOST,
            compensate=on,
            **wanted,
        )
        for on in (False, True)
    ]
    assert size(made[0]) == pytest.approx(size(made[1]), abs=40)
    assert layers(made[0]) == layers(made[1])
    before, after = (noise(artifact, plain, images) for artifact in made)
    print(f"noise {before:.3g} -> {after:.3g}")
    assert after < gain * before


def test_rounding_is_no_worse_than_the_nearest_and_near_the_best() -> None:
    """Against all 3^8 roundings of a row of eight strongly correlated weights."""
    from yolodeploy_coreml.weights.gptq import Moments, Rounding, to_tables

    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(400, 8, generator=random) + 2 * torch.randn(400, 1, generator=random) + 1
    weight = torch.randn(4, 8, generator=random)
    moments = Moments(inputs.T @ inputs / 400, inputs.mean(0), torch.ones(4))
    rounding, table = Rounding(weight, moments), torch.tensor([[-1.0, 0.0, 1.0]])
    solved = rounding.solve(to_tables(table, 4))
    every = torch.cartesian_prod(*[table[0]] * 8)
    centred = inputs - inputs.mean(0)
    best = sum(((centred @ (row - every).T) ** 2).mean(0).min() for row in weight)
    nearest = weight.round().clamp(-1, 1)
    exact = float(((centred @ (weight - solved).T) ** 2).mean(0).sum())
    assert exact < 0.4 * float(((centred @ (weight - nearest).T) ** 2).mean(0).sum())
    assert exact < 1.6 * float(best)
    assert rounding.noise(solved) == pytest.approx(exact, rel=0.1)
    shift = rounding.shift(solved)
    assert torch.allclose(inputs.mean(0) @ solved.T + shift, inputs.mean(0) @ weight.T, atol=1e-5)


def test_a_layer_that_shows_in_no_detection_keeps_its_values() -> None:
    """As the branch for large objects of a model that saw none; all its gradients are zero."""
    from yolodeploy_coreml.weights.gptq import Moments, Rounding
    from yolodeploy_coreml.weights.schemes import palette_scheme

    weight = np.random.default_rng(1).normal(size=(8, 4, 3, 3)).astype(np.float16)
    rows = torch.from_numpy(weight.reshape(8, -1).astype(np.float32))
    rounding = Rounding(rows, Moments(torch.eye(36), torch.zeros(36), torch.zeros(8)))
    dense = palette_scheme(4, "kmeans", None, ios18=False).compress(weight, rounding, None)[1]
    assert float((dense - rows).square().mean()) < 0.02
    assert rounding.noise(dense) == 0


def test_predicted_noise_is_in_proportion_to_the_measured_one(
    exports, calibration, images, tmp_path
) -> None:
    """Errors of neighbouring positions are alike, so the truth is a few times what is predicted."""
    from yolodeploy_coreml.weights.compressor import Compressor
    from yolodeploy_coreml.weights.schemes import palette_scheme

    params = STEPS["palettize"].params.model_validate({"keep_float": MOST, "compensate": True})
    prepared = replace(context(tmp_path / "w"), data={"calibration": calibration})
    compressor = Compressor(exports["16"], params, prepared)
    assert sorted(compressor.names) == sorted(SMALL)
    ratios = []
    for bits in (4, 6):
        scheme = palette_scheme(bits, "kmeans", None, ios18=False)
        layers = compressor.compressed(dict.fromkeys(compressor.names, scheme))
        compressor.write(layers, "", tmp_path / "small")
        small = head(Artifact("mlpackage", tmp_path / "small", ""), images)
        measured = _noise_in_detections(small, head(exports["16"], images))
        ratios.append(measured / sum(layer.noise for layer in layers.values()))
    print(f"measured over predicted noise: {ratios}")
    assert min(ratios) > 1
    assert max(ratios) < 8
    assert max(ratios) < 1.5 * min(ratios)


def _noise_in_detections(got: np.ndarray, wanted: np.ndarray) -> float:
    from yolodeploy_coreml.weights.features import detection_features

    total, detections = 0.0, 0.0
    for close, exact in zip(torch.from_numpy(got), torch.from_numpy(wanted), strict=True):
        features, weight = detection_features(exact, exact)
        near = detection_features(close, exact)[0]
        total += float((near.double() - features.double()).square().sum())
        detections += weight
    return total / detections


def test_budgets_are_met_as_well_as_single_layers_allow() -> None:
    rng = np.random.default_rng(5)
    options = {
        f"{n}": [Option(b, 100 * b * (n + 1), float(rng.random() * 4.0**-b)) for b in (4, 6, 8)]
        for n in range(6)
    }
    everything = _all(list(options.values()))
    for size_limit in (9000, 11000, 14000):
        chosen = least_noise(options, size_limit)
        assert size_of(chosen) <= size_limit
        best = min(noise for total, noise in everything if total <= size_limit)
        assert noise_of(chosen) < 3 * best
    for noise_limit in (3e-3, 1e-3, 1e-4):
        chosen = least_size(options, noise_limit)
        assert noise_of(chosen) <= noise_limit
        best = min(total for total, noise in everything if noise <= noise_limit)
        assert size_of(chosen) < 1.12 * best
    assert size_of(least_noise(options, 0)) == min(total for total, _ in everything)
    assert noise_of(least_size(options, 0)) == min(noise for _, noise in everything)


def _all(options: list[list[Option]]) -> list[tuple[int, float]]:
    found = [(0, 0.0)]
    for forms in options:
        found = [(s + o.size, n + o.noise) for s, n in found for o in forms]
    return found


def test_optimize_beats_uniform_bits_of_the_same_size(
    exports, calibration, images, tmp_path
) -> None:
    uniform = compress(
        exports["16"], tmp_path / "6", calibration, bits=6, compensate=True, keep_float=MOST
    )
    mixed = compress(
        exports["16"],
        tmp_path / "mixed",
        calibration,
        optimize="accuracy",
        max_mb=size(uniform) / 1e6,
        keep_float=MOST,
    )
    assert size(mixed) <= size(uniform)
    ours, theirs = (noise(artifact, exports["16"], images) for artifact in (mixed, uniform))
    print(f"noise of mixed bits {ours:.3g}, of 6 bits {theirs:.3g}")
    assert ours < 0.9 * theirs


def test_size_is_smaller_and_accuracy_closer(exports, calibration, images, tmp_path) -> None:
    small, close = (
        compress(
            exports["nms"],
            tmp_path / goal,
            calibration,
            optimize=goal,
            max_noise=limit,
            keep_float=MOST,
        )
        for goal, limit in (("size", 0.02), ("accuracy", 0.0002))
    )
    assert size(small) < size(close) < size(exports["nms"])
    assert noise(close, exports["nms"], images) < noise(small, exports["nms"], images) < 0.05
    changed = {name for name, form in layers(small).items() if form != "fp16"}
    assert changed <= set(SMALL)


def test_bits_by_hand(exports, calibration, tmp_path) -> None:
    by_hand = {"head": 6, "model.0.conv": 2}
    made = compress(exports["16"], tmp_path / "w", calibration, bits=4, layers=by_hand)
    found = layers(made)
    assert found["model.0.conv"] == "2-bit palette"
    assert found["model.22.cv2.0.0.conv"] == "6-bit palette"
    assert found["model.12.cv1.conv"] == "4-bit palette"
    assert found["model.22.dfl.conv"] == "fp16"
    pinned = compress(
        exports["16"],
        tmp_path / "pinned",
        calibration,
        optimize="size",
        max_noise=0.001,
        keep_float=MOST,
        layers={"model.22.cv2.0.*": 8},
    )
    assert {layers(pinned)[name] for name in SMALL[:3]} == {"8-bit palette"}
    assert len(set(layers(pinned).values())) > 2


def test_groups_of_channels_have_tables_of_their_own(exports, calibration, tmp_path) -> None:
    plain = exports["18"]
    made = [
        compress(
            plain,
            tmp_path / f"{g}",
            calibration,
            version="18",
            bits=3,
            group_size=g,
            keep_float=MOST,
        )
        for g in (None, 16, 4)
    ]
    errors = [_error(artifact, plain) for artifact in made]
    print("relative squared error of the weights", errors)
    assert errors[0] > 1.01 * errors[1]
    assert errors[1] > 1.1 * errors[2]
    assert size(made[0]) < size(made[1]) < size(made[2]) < 1.01 * size(made[0])


def _error(artifact: Artifact, plain: Artifact) -> float:
    from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package
    from yolodeploy_coreml.runtime.executor import Program

    got, wanted = (
        Program(read_package(a.path / PACKAGE))._constants_used for a in (artifact, plain)
    )
    names = [
        name for name in wanted if "weight" in name and not torch.equal(got[name], wanted[name])
    ]
    assert len(names) == len(SMALL)
    return sum(float((got[n] - wanted[n]).square().sum() / wanted[n].square().sum()) for n in names)


def test_keep_float_keeps_parts(exports, calibration, tmp_path) -> None:
    made = compress(exports["16"], tmp_path / "w", calibration, "quantize_weights", keep_float=MOST)
    changed = {name for name, form in layers(made).items() if form == "int8 weights"}
    assert changed <= set(SMALL)
    assert len(changed) >= 5


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ({"layers": {"model.99.*": 4}}, PlanRefused, r"`layers: model\.99\.\*` matches no layer"),
        ({"layers": {"head": 4, "head.last": 6}}, PlanRefused, "both 4 and 6 bits"),
        ({"layers": {"dfl": 4}}, PlanRefused, r"model\.22\.dfl\.conv, which stays in floating"),
        ({"keep_float": ["dfl", "decode", "nek"]}, PlanRefused, "Perhaps you meant `neck`"),
        (
            {"keep_float": ["dfl", "decode", "backbone", "neck", "head"]},
            PlanRefused,
            "Remove the step",
        ),
        (
            {"keep_float": MOST, "optimize": "accuracy", "max_mb": 1.0},
            PlanRefused,
            r"`max_mb: 1` cannot be met: the best that was reached is \d\.\d\d MB with noise",
        ),
        (
            {"keep_float": MOST, "optimize": "size", "max_noise": 0.01, "max_mb": 5.5},
            PlanRefused,
            r"`max_mb: 5.5` cannot be met: the best that was reached is 5\.\d\d MB with noise",
        ),
        (
            {"keep_float": MOST, "optimize": "size", "max_noise": 1e-12},
            PlanRefused,
            "leaves every layer in floating point: the best that a single layer's palette",
        ),
        (
            {"keep_float": MOST, "optimize": "size", "max_noise": 1e-9, "layers": {"head.last": 1}},
            PlanRefused,
            "stays in floating point",
        ),
        (
            {
                "keep_float": MOST,
                "optimize": "accuracy",
                "max_noise": 1e-9,
                "layers": {"model.22.cv2.0.2": 1},
            },
            PlanRefused,
            r"a noise of 1e-09 \(`max_noise`\) cannot be met: the best that was reached is",
        ),
    ],
)
def test_what_cannot_be_is_refused(exports, calibration, tmp_path, wanted, error, said) -> None:
    with pytest.raises(error, match=said):
        compress(exports["16"], tmp_path / "w", calibration, **wanted)


def test_calibration_images_that_are_no_use(exports, calibration, tmp_path) -> None:
    one = replace(calibration, images=calibration.images[:1])
    with pytest.raises(DataError, match="1 calibration image"):
        compress(exports["16"], tmp_path / "one", one, compensate=True)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        compress(
            exports["16"],
            tmp_path / "broken",
            replace(calibration, images=(broken, *calibration.images)),
            compensate=True,
        )


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("palettize", {"max_mb": 2}, "Add `optimize: size`"),
        ("palettize", {"max_noise": 0.1}, "Add `optimize: size`"),
        ("palettize", {"optimize": "size", "bits": 4}, "optimize chooses bits itself"),
        ("palettize", {"optimize": "size", "bits": 4, "mode": "uniform"}, "Remove them"),
        ("palettize", {"layers": {"head": 5}}, "layers"),
        ("quantize_weights", {"block_size": 16}, "write bits: 4"),
        ("quantize_weights", {"bits": 2}, "bits"),
    ],
)
def test_parameters_that_contradict_each_other(name, wanted, said) -> None:
    with pytest.raises(ValidationError, match=said):
        STEPS[name].params.model_validate(wanted)


@pytest.mark.parametrize("name", ["palettize", "quantize_weights"])
def test_the_decoder_is_never_offered(name) -> None:
    params = STEPS[name].params.model_validate({"keep_float": ["head.last"]})
    reason = plugin.refuse(STEPS[name], params, Target(PHONE, "16"))
    assert reason is not None
    assert "Write keep_float: [head.last, dfl, decode]." in reason


def test_images_are_needed_only_where_they_are_looked_at() -> None:
    step = STEPS["palettize"]
    for wanted, views in (
        ({}, ()),
        ({"compensate": True}, ("calibration",)),
        ({"optimize": "size"}, ("calibration",)),
    ):
        assert step.needs(step.params.model_validate(wanted)) == views


@pytest.mark.parametrize(
    ("name", "wanted"), [("palettize", {"optimize": "size"}), ("quantize_weights", {})]
)
def test_probe_writes_one_layer_at_a_time(
    exports, calibration, images, tmp_path, name, wanted
) -> None:
    step = STEPS[name]
    params = step.params.model_validate({**wanted, "keep_float": MOST})
    prepared = replace(context(tmp_path / "w"), data={"calibration": calibration})
    assert step.probe is not None
    probe = step.probe(exports["16"], params, prepared)
    assert {trial.layer for trial in probe.trials} <= set(SMALL)
    assert {trial.part for trial in probe.trials} == {"head", "head.last"}
    for index, trial in enumerate(probe.trials[:2]):
        folder = tmp_path / f"{index}"
        folder.mkdir()
        probe.write(trial, folder)
        alone = Artifact("mlpackage", folder, "")
        changed = {n: f for n, f in layers(alone).items() if f != "fp16"}
        assert changed == {trial.layer: trial.scheme}
        assert trial.weights > 1000
        assert 0 < noise(alone, exports["16"], images) < 0.1


def test_same_bytes_with_more_threads(exports, calibration, tmp_path) -> None:
    from test_coreml_weights import files

    made = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made.append(
            files(
                compress(
                    exports["16"],
                    tmp_path / f"{threads}",
                    calibration,
                    optimize="accuracy",
                    keep_float=MOST,
                )
            )
        )
    torch.set_num_threads(1)
    assert made[0] == made[1]
