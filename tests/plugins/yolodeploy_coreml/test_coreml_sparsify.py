"""`sparsify` on Core ML: which weights go, what is stored, and what other steps make of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_coreml_export import SIDE, context, export, head, load
from test_coreml_weights import _key, _program, _types, operations, size

import yolodeploy_coreml as plugin
from yolodeploy.backend import Artifact, Target
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package
from yolodeploy_coreml.mlpackage.values import CONSTEXPR

STEPS = {step.name: step for step in plugin.STEPS}
PHONE = next(device for device in plugin.DEVICES if device.name == "iphone-13")
HEAD = ["dfl", "decode", "backbone", "neck"]  # kept, so that only the head's 18 are pruned
PLAIN: dict[str, object] = {"compensate": False}
# All but the branches for small objects.
MOST = [*HEAD, "model.22.cv?.1.*", "model.22.cv?.2.*"]

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)


@pytest.fixture(scope="module")
def exports(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("exports")
    source = load(demo.weights, folder / "load")
    return {version: export(source, folder / version, version) for version in ("16", "18")}


@pytest.fixture(scope="module")
def halves(exports: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The packages with half of the weights of every layer."""
    work = tmp_path_factory.mktemp("halves")
    return {v: compress(a, work / v, version=v, ratio=0.5) for v, a in exports.items()}


@pytest.fixture(scope="module")
def calibration(demo: Any) -> Dataset:
    return load_view(demo.data, View(split="train", images=6), 0)


@pytest.fixture(scope="module")
def images(demo: Any) -> np.ndarray:
    return np.concatenate(
        list(load_view(demo.data, View(images=2), 0).letterboxed(ImageShape.square(SIDE)))
    )


def compress(
    artifact: Artifact,
    work: Path,
    name: str = "sparsify",
    version: str = "16",
    view: Dataset | None = None,
    **wanted: object,
) -> Artifact:
    step = STEPS[name]
    if name == "sparsify":
        wanted = PLAIN | wanted if "n_m" in wanted else PLAIN | {"scope": "layer"} | wanted
    params = step.params.model_validate(wanted)
    assert plugin.refuse(step, params, Target(PHONE, version)) is None
    prepared = replace(context(work, (), version), data={"calibration": view} if view else {})
    return Artifact("mlpackage", step.run(artifact, params, prepared), "")


def layers(artifact: Artifact) -> Mapping[str, str]:
    return plugin.describe(artifact).layers


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    """What the executor computes with: every convolution's weights, expanded."""
    from yolodeploy.compress import read_layers
    from yolodeploy_coreml.mlpackage.layers import block_of
    from yolodeploy_coreml.mlpackage.layers import layers as convolutions
    from yolodeploy_coreml.runtime.executor import Program

    package = read_package(artifact.path / PACKAGE)
    constants = Program(package)._constants_used
    found = convolutions(block_of(package.spec), read_layers(artifact.path))
    return {c.name: constants[c.weight].numpy() for c in found}


@pytest.mark.parametrize("version", ["16", "18"])
def test_half_of_each_layer_is_stored(exports, halves, version) -> None:
    assert size(halves[version]) < 0.58 * size(exports[version])
    before, after = weights(exports[version]), weights(halves[version])
    assert before.keys() == after.keys()
    for name, dense in before.items():
        kept = after[name] != 0
        if name == "model.22.dfl.conv":
            assert np.array_equal(after[name], dense)
            continue
        assert np.array_equal(after[name][kept], dense[kept])
        assert abs(kept.mean() - 0.5) < 0.5 / dense.size + 1e-9
        assert np.abs(dense[~kept]).max() <= np.abs(dense[kept]).min()
    assert layers(halves[version]) == {
        name: "fp16" if "dfl" in name else "50 % sparse fp16" for name in before
    }


def test_two_of_four_along_the_input_channels(exports, tmp_path) -> None:
    small = compress(exports["16"], tmp_path / "w", n_m="2:4")
    before, after = weights(exports["16"]), weights(small)
    dense = {name for name, form in layers(small).items() if form == "fp16"}
    # Three input channels are no multiple of four; a table would have to spare nothing there.
    assert dense == {"model.0.conv", "model.22.dfl.conv"}
    for name in before.keys() - dense:
        out, channels, *sides = before[name].shape
        runs = [w.reshape(out, channels // 4, 4, *sides) for w in (before[name], after[name])]
        kept = runs[1] != 0
        assert (kept.sum(2) == 2).all()
        largest = np.sort(np.abs(runs[0]), axis=2)[:, :, 2:].sum(2)
        np.testing.assert_allclose(np.abs(runs[1]).sum(2), largest, rtol=1e-5)


def test_three_of_four_become_zero(exports, tmp_path) -> None:
    """The order of coremltools' n_m_ratio: zeros first."""
    small = compress(exports["16"], tmp_path / "w", n_m="3:4", keep_float=HEAD)
    assert set(layers(small).values()) == {"fp16", "75 % sparse fp16"}


def test_a_global_share_spares_the_layers_with_large_weights(exports, tmp_path, images) -> None:
    small = compress(exports["16"], tmp_path / "w", ratio=0.5, scope="global")
    before, after = weights(exports["16"]), weights(small)
    zeros = {name: float((after[name] == 0).mean()) for name in after}
    free = [name for name in after if name != "model.22.dfl.conv"]
    share = sum((after[n] == 0).sum() for n in free) / sum(after[n].size for n in free)
    assert 0.49 < share <= 0.5  # layers that would be larger keep their small weights
    assert zeros["model.0.conv"] == 0
    assert max(zeros.values()) > 0.6
    forms = layers(small)
    assert forms["model.0.conv"] == "fp16"
    gone = max(np.abs(before[n][after[n] == 0]).max() for n in free if forms[n] != "fp16")
    left = min(np.abs(after[n][after[n] != 0]).min() for n in free if forms[n] != "fp16")
    assert gone <= left


def test_layers_that_would_not_get_smaller_stay(exports, tmp_path) -> None:
    """A mask takes a sixteenth of fp16 weights: fewer zeros than that make a file larger."""
    with pytest.raises(PlanRefused, match="that this makes smaller"):
        compress(exports["16"], tmp_path / "w", ratio=0.06)


def test_coremltools_stores_and_expands_the_same(exports, halves, tmp_path) -> None:
    """Its own pruning writes the same operations, operands and places, its reader the same weights."""
    from yolodeploy_coreml.runtime.executor import Program
    from yolodeploy_coreml.toolchain import coremltools, quiet

    ct = coremltools()
    cto = ct.optimize.coreml
    for version, small in halves.items():
        with quiet():
            plain = ct.models.MLModel(str(exports[version].path / PACKAGE), skip_model_load=True)
            config = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=600)
            config = cto.OptimizationConfig(op_type_configs={"conv": config})
            theirs = tmp_path / f"theirs-{version}.mlpackage"
            cto.prune_weights(plain, config).save(str(theirs))
            ours = ct.models.MLModel(str(small.path / PACKAGE), skip_model_load=True)
            dense = tmp_path / f"dense-{version}.mlpackage"
            cto.decompress_weights(ours).save(str(dense))
        _assert_same_layout(operations(small), _program(theirs))
        image = torch.rand((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) * 255
        first, second = (
            list(Program(read_package(path))(image).values())
            for path in (small.path / PACKAGE, dense)
        )
        assert torch.equal(first[0], second[0])


def _assert_same_layout(ours: list[Any], theirs: list[Any]) -> None:
    sparse = {_key(op).removesuffix("_sparsified"): op for op in theirs if op.type in CONSTEXPR}
    compared = 0
    for op in ours:
        other = sparse.get(_key(op))
        if op.type in CONSTEXPR and other is not None:
            assert op.type == other.type
            assert op.outputs[0].type == other.outputs[0].type
            assert _without_sizes(op) == _without_sizes(other)
            compared += 1
    assert compared > 50


def _without_sizes(op: Any) -> dict[str, Any]:
    """Operands but for how many values there are: where weights are equal, its cut drops all."""
    found = _types(op)
    kind, place = found["nonzero_data"]
    assert kind.tensorType.rank == 1
    return {**found, "nonzero_data": (kind.tensorType.dataType, place)}


PALETTE, INTEGERS = "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale"
JOINT: list[tuple[str, dict[str, object], str, str]] = [
    ("palettize", {"bits": 4, "group_size": 16}, PALETTE, "50 % sparse 4-bit palette"),
    ("palettize", {"bits": 3, "mode": "uniform"}, PALETTE, "50 % sparse 3-bit palette"),
    ("quantize_weights", {}, INTEGERS, "50 % sparse int8 weights"),
    ("quantize_weights", {"bits": 4}, INTEGERS, "50 % sparse int4 weights"),
]


@pytest.mark.parametrize(("name", "wanted", "operation", "form"), JOINT)
def test_sparse_weights_of_fewer_bits_keep_their_zeros(
    halves, tmp_path, images, name, wanted, operation, form
) -> None:
    """iOS 18 has joint forms; coremltools' own decompression is the second opinion on ours."""
    from yolodeploy_coreml.runtime.executor import Program
    from yolodeploy_coreml.toolchain import coremltools, quiet

    small = compress(halves["18"], tmp_path / "w", name, "18", keep_float=HEAD, **wanted)
    assert size(small) < size(halves["18"])
    forms = layers(small)
    assert set(forms.values()) == {"fp16", "50 % sparse fp16", form}
    block = operations(small)
    made = {out.name: op for op in block for out in op.outputs}
    assert (
        len([op for op in block if op.type == operation]) == list(forms.values()).count(form) > 10
    )
    before, after = weights(halves["18"]), weights(small)
    for layer, sparse in before.items():
        assert not after[layer][sparse == 0].any(), layer
    for op in block:
        if op.type == "constexpr_sparse_to_dense" and op.inputs["mask"].arguments[0].name:
            mask, values = (op.inputs[key].arguments[0].name for key in ("mask", "nonzero_data"))
            assert made[mask] is made[values]
            assert made[mask].type == operation
    ct = coremltools()
    with quiet():
        model = ct.models.MLModel(str(small.path / PACKAGE), skip_model_load=True)
        ct.optimize.coreml.decompress_weights(model).save(str(tmp_path / "dense.mlpackage"))
    image = torch.from_numpy(images[:1]) * 255
    packages = (small.path / PACKAGE, tmp_path / "dense.mlpackage")
    ours, theirs = (list(Program(read_package(path))(image).values()) for path in packages)
    assert torch.equal(ours[0], theirs[0])


def test_half_of_the_weights_in_eight_bits(exports, halves, tmp_path) -> None:
    small = compress(halves["18"], tmp_path / "w", "palettize", "18")
    assert size(small) < 0.36 * size(exports["18"])
    assert list(layers(small).values()).count("50 % sparse 8-bit palette") > 55


def test_joint_values_are_close(halves, tmp_path) -> None:
    before = weights(halves["18"])
    for name, wanted, error in (
        ("palettize", {"bits": 4, "group_size": 16}, 2e-2),
        ("quantize_weights", {}, 1e-3),
        ("quantize_weights", {"bits": 4}, 5e-2),
    ):
        small = compress(
            halves["18"], tmp_path / f"{name}{len(wanted)}", name, "18", keep_float=HEAD, **wanted
        )
        for layer, near in weights(small).items():
            wide = before[layer].astype(np.float64)
            assert np.square(near - wide).sum() < error * np.square(wide).sum(), (name, layer)


@pytest.mark.parametrize("name", ["palettize", "quantize_weights"])
def test_before_ios_18_fewer_bits_are_refused(halves, tmp_path, name) -> None:
    with pytest.raises(PlanRefused, match=r'sparse, and before iOS 18.* Write os: "18", or remove'):
        compress(halves["16"], tmp_path / "w", name)


def test_a_layer_that_stayed_dense_may_be_compressed_on_ios_16(exports, tmp_path) -> None:
    """With the sparse layers kept there is nothing that needs iOS 18."""
    small = compress(exports["16"], tmp_path / "s", ratio=0.5, keep_float=HEAD)
    both = compress(small, tmp_path / "p", "palettize", keep_float=["dfl", "decode", "head"])
    assert set(layers(both).values()) == {"fp16", "50 % sparse fp16", "8-bit palette"}
    assert layers(both)["model.22.cv2.0.0.conv"] == "50 % sparse fp16"


def test_other_orders_are_refused(exports, halves, tmp_path, calibration) -> None:
    small = compress(exports["16"], tmp_path / "p", "palettize")
    with pytest.raises(PlanRefused, match=r"compressed already.* sparse first, and once"):
        compress(small, tmp_path / "ps")
    with pytest.raises(PlanRefused, match=r"compressed already.* sparse first, and once"):
        compress(halves["18"], tmp_path / "ss", version="18")
    with pytest.raises(PlanRefused, match="compressed already"):
        compress(halves["18"], tmp_path / "sq", "quantize", "18", calibration)


def test_compensation_makes_up_for_what_goes(exports, tmp_path, calibration, images) -> None:
    plain, step = head(exports["18"], images), {"ratio": 0.5, "keep_float": MOST}
    first = compress(exports["18"], tmp_path / "first", version="18", **step)
    step |= {"compensate": True}
    made = compress(exports["18"], tmp_path / "made", version="18", view=calibration, **step)
    before, after = weights(first), weights(made)
    for name in before:
        assert np.array_equal(before[name] == 0, after[name] == 0)
    noise = [output_noise(plain, head(artifact, images)) for artifact in (first, made)]
    assert noise[1] < 0.5 * noise[0]
    step = {"keep_float": MOST, "optimize": "accuracy"}
    both = compress(made, tmp_path / "both", "palettize", "18", calibration, **step)
    assert size(both) < size(made)
    for name, near in weights(both).items():
        assert not near[after[name] == 0].any()
    assert output_noise(plain, head(both, images)) < 1.2 * noise[1] + 0.005


def test_one_calibration_image_is_refused(exports, tmp_path, demo) -> None:
    one = load_view(demo.data, View(split="train", images=1), 0)
    with pytest.raises(DataError, match="image"):
        compress(exports["16"], tmp_path / "w", view=one, compensate=True)


def test_calibration_is_read_unless_nothing_is_compensated() -> None:
    step = STEPS["sparsify"]
    assert step.needs(step.params()) == ("calibration",)
    assert step.needs(step.params.model_validate(PLAIN)) == ()


@pytest.mark.parametrize("version", ["15", "15.4"])
def test_an_older_system_is_refused_with_the_remedy(version) -> None:
    step = STEPS["sparsify"]
    reason = plugin.refuse(step, step.params(), Target(PHONE, version))
    assert reason is not None
    assert "`sparsify`" in reason
    assert 'os: "16"' in reason


def test_selectors_are_checked(exports, tmp_path) -> None:
    step = STEPS["sparsify"]
    params = step.params.model_validate({"keep_float": ["head"]})
    assert "`dfl` and `decode`" in str(plugin.refuse(step, params, Target(PHONE, "16")))
    with pytest.raises(PlanRefused, match="matches no layer"):
        compress(exports["16"], tmp_path / "w", keep_float=["dfl", "decode", "model.99.*"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"n_m": "2:4", "ratio": 0.5}, "Remove ratio"),
        ({"n_m": "2:4", "scope": "global"}, "Remove scope"),
        ({"n_m": "4:4"}, "leaves nothing"),
        ({"n_m": "2/4"}, "pattern"),
        ({"ratio": 1.0}, "less than 1"),
        ({"ratio": 0.0}, "greater than 0"),
    ],
)
def test_contradictions_are_refused(wanted, message) -> None:
    with pytest.raises(ValidationError, match=message):
        STEPS["sparsify"].params.model_validate(wanted)


def test_a_layer_that_a_global_share_empties_is_named(exports, tmp_path) -> None:
    with pytest.raises(PlanRefused, match=r"leaves nothing of model\..* Lower ratio"):
        compress(exports["16"], tmp_path / "w", ratio=0.9999, scope="global")


def test_a_probe_prunes_one_layer(exports, tmp_path) -> None:
    step = STEPS["sparsify"]
    params = step.params.model_validate(
        {"ratio": 0.5, "scope": "layer", "keep_float": HEAD, **PLAIN}
    )
    prepared = context(tmp_path / "w", (), "16")
    assert step.probe is not None
    probe = step.probe(exports["16"], params, prepared)
    assert len(probe.trials) == 18
    trial = probe.trials[4]
    assert trial.scheme == "50 % sparse"
    probe.write(trial, tmp_path / "one")
    forms = layers(Artifact("mlpackage", tmp_path / "one", ""))
    assert [name for name, form in forms.items() if form != "fp16"] == [trial.layer]
