"""Compressed weights in Core ML packages: what is stored, what is spared, what it costs."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from test_coreml_export import SIDE, context, export, head, load, reference

import yolodeploy_coreml as plugin
from yolodeploy.backend import Artifact, Target
from yolodeploy.compress import read_layers
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy_coreml.mlpackage.package import PACKAGE, inner, read_package
from yolodeploy_coreml.mlpackage.values import CONSTEXPR

STEPS = {step.name: step for step in plugin.STEPS}
PHONE = next(device for device in plugin.DEVICES if device.name == "iphone-13")

pytestmark = pytest.mark.skipif(
    plugin.problem() is not None, reason=plugin.problem() or "coremltools is installed"
)


def compress(
    artifact: Artifact, work: Path, name: str, os_version: str | None = "16", **wanted: object
) -> Artifact:
    step = STEPS[name]
    params = step.params.model_validate(wanted)
    folder = step.run(artifact, params, context(work, (), os_version))
    return Artifact("mlpackage", folder, "")


def size(artifact: Artifact) -> int:
    return sum(file.stat().st_size for file in artifact.path.rglob("*") if file.is_file())


def operations(artifact: Artifact) -> list[Any]:
    function = inner(read_package(artifact.path / PACKAGE).spec).mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def files(artifact: Artifact) -> dict[str, bytes]:
    root = artifact.path
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*.*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def source(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(demo.weights, tmp_path_factory.mktemp("source") / "load")


@pytest.fixture(scope="module")
def exports(source: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("exports")
    return {version: export(source, folder / version, version) for version in ("16", "18")}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    image = np.stack([np.sin(x / (7 + c)) * np.cos(y / (11 - c)) for c in range(3)]) * 100 + 127
    image[:, 30:90, 40:80] = [[[250]], [[20]], [[20]]]
    return image[None].round().astype(np.float32) / 255


CASES = [
    ("palettize", {"bits": 8}, 3_200_000, 0.3),
    ("palettize", {"bits": 6}, 2_420_000, 0.8),
    ("palettize", {"bits": 8, "mode": "uniform"}, 3_200_000, 1.5),
    ("quantize_weights", {}, 3_200_000, 0.5),
]


@pytest.mark.parametrize("version", ["16", "18"])
@pytest.mark.parametrize(("name", "wanted", "limit", "pixels"), CASES)
def test_size_and_output(
    source, exports, images, tmp_path, name, wanted, limit, pixels, version
) -> None:
    small = compress(exports[version], tmp_path / "w", name, version, **wanted)
    assert size(small) <= limit
    difference = np.abs(head(small, images) - reference(source, images))
    assert 0 < difference[:, :4].mean() < pixels
    before, after = plugin.describe(exports[version]), plugin.describe(small)
    assert replace(after, layers={}) == replace(before, layers={})
    assert set(before.layers.values()) == {"fp16"}
    scheme = f"{wanted['bits']}-bit palette" if name == "palettize" else "int8 weights"
    assert Counter(after.layers.values())[scheme] > 55
    assert set(after.layers.values()) == {"fp16", scheme}
    assert after.layers["model.22.dfl.conv"] == "fp16"


@pytest.mark.parametrize("name", ["palettize", "quantize_weights"])
def test_only_convolutions_before_the_decoder_are_compressed(exports, tmp_path, name) -> None:
    """The trap: coremltools' defaults also take the distances' weights, anchors and strides."""
    before = {op.outputs[0].name: op for op in operations(exports["16"])}
    after = operations(compress(exports["16"], tmp_path / "w", name))
    changed = {op.outputs[0].name for op in after if op.type in CONSTEXPR}
    readers = {
        binding.name: (op.type, key)
        for op in after
        for key, argument in op.inputs.items()
        for binding in argument.arguments
    }
    assert {readers[out] for out in changed} == {("conv", "weight")}
    (softmax,) = (op for op in after if op.type == "softmax")
    (distances,) = (op for op in after if op.type == "conv" and softmax.outputs[0].name in str(op))
    assert distances.inputs["weight"].arguments[0].name not in changed
    convolutions = [op for op in after if op.type == "conv"]
    assert len(convolutions) - 8 <= len(changed) < len(convolutions)
    for op in after:
        was = before[op.outputs[0].name]
        assert op.outputs == was.outputs
        if op.outputs[0].name not in changed:
            assert op.type == was.type
            assert op.inputs == was.inputs


def test_constants_of_the_decoder_keep_their_values(exports, images, tmp_path) -> None:
    """With every other weight at one bit the boxes are wrong, but where they are stays exact."""
    from yolodeploy_coreml.mlpackage.editor import Editor

    small = compress(exports["16"], tmp_path / "w", "palettize", bits=1)
    plain, after = (
        Editor(read_package(a.path / PACKAGE), read_layers(a.path)) for a in (exports["16"], small)
    )
    kept = {
        op.outputs[0].name: after._reader.read(op.attributes["val"])
        for op in operations(small)
        if op.type == "const"
    }
    for op in operations(exports["16"]):
        name = op.outputs[0].name
        if op.type == "const" and name in kept:
            assert np.array_equal(plain._reader.read(op.attributes["val"]), kept[name])
    grids = [value for value in kept.values() if np.size(value) >= 525]
    assert len(grids) >= 2


@pytest.mark.parametrize(
    ("version", "name", "wanted"),
    [
        ("16", "palettize", {"bits": 1}),
        ("16", "palettize", {"bits": 6}),
        ("16", "quantize_weights", {}),
        ("18", "palettize", {"bits": 3}),
        ("18", "palettize", {"bits": 8}),
        ("18", "quantize_weights", {}),
        ("18", "quantize_weights", {"bits": 4}),
        ("18", "palettize", {"bits": 4, "group_size": 16}),
    ],
)
def test_coremltools_reads_the_same_weights(exports, tmp_path, name, wanted, version) -> None:
    """Its own parser and its own decompression are the second opinion on what was written."""
    from yolodeploy_coreml.runtime.executor import Program
    from yolodeploy_coreml.toolchain import coremltools, quiet

    small = compress(exports[version], tmp_path / "w", name, version, **wanted)
    ct = coremltools()
    with quiet():
        model = ct.models.MLModel(str(small.path / PACKAGE), skip_model_load=True)
        dense = ct.optimize.coreml.decompress_weights(model)
        dense.save(str(tmp_path / "dense.mlpackage"))
    assert not [op for op in _program(tmp_path / "dense.mlpackage") if op.type in CONSTEXPR]
    ours, theirs = (
        Program(read_package(path)) for path in (small.path / PACKAGE, tmp_path / "dense.mlpackage")
    )
    import torch

    image = torch.rand(ours.shape, generator=torch.Generator().manual_seed(0)) * 255
    (first,), (second,) = (list(program(image).values()) for program in (ours, theirs))
    assert torch.equal(first, second)


def _program(path: Path) -> list[Any]:
    function = inner(read_package(path).spec).mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


@pytest.mark.parametrize(("version", "bits"), [("16", 6), ("18", 3)])
def test_layout_is_that_of_coremltools(exports, tmp_path, version, bits) -> None:
    """Operations, operands, their types and where they are kept: as in its own palettes."""
    from yolodeploy_coreml.toolchain import coremltools, quiet

    small = compress(
        exports[version], tmp_path / "w", "palettize", version, bits=bits, mode="uniform"
    )
    ct = coremltools()
    with quiet():
        model = ct.models.MLModel(str(exports[version].path / PACKAGE), skip_model_load=True)
        cto = ct.optimize.coreml
        config = cto.OpPalettizerConfig(mode="uniform", nbits=bits, weight_threshold=600)
        config = cto.OptimizationConfig(op_type_configs={"conv": config})
        cto.palettize_weights(model, config).save(str(tmp_path / "theirs.mlpackage"))
    theirs = {
        _key(op): op for op in _program(tmp_path / "theirs.mlpackage") if op.type in CONSTEXPR
    }
    compared = 0
    for op in operations(small):
        if op.type in CONSTEXPR and (other := theirs.get(_key(op))):
            assert op.type == other.type
            assert op.outputs[0].type == other.outputs[0].type
            assert _types(op) == _types(other)
            compared += 1
    assert compared > 50


def _key(op: Any) -> str:
    return op.outputs[0].name.removesuffix("_palettized")


def _types(op: Any) -> dict[str, Any]:
    values = {key: value for key, value in op.attributes.items() if key != "name"}
    values |= {key: argument.arguments[0].value for key, argument in op.inputs.items()}
    return {key: (value.type, value.WhichOneof("value")) for key, value in values.items()}


def test_a_pipeline_is_compressed_inside(source, exports, images, tmp_path) -> None:
    objects = export(source, tmp_path / "objects", nms=True)
    small = compress(objects, tmp_path / "w", "palettize")
    spec = read_package(small.path / PACKAGE).spec
    assert spec.WhichOneof("Type") == "pipeline"
    assert size(small) < 0.55 * size(objects)
    plain = compress(exports["16"], tmp_path / "plain", "palettize")
    np.testing.assert_allclose(head(small, images), head(plain, images), rtol=0, atol=0.3)


def test_values_are_what_the_scheme_says(exports, tmp_path) -> None:
    from yolodeploy_coreml.mlpackage.editor import Editor

    plain = Editor(read_package(exports["16"].path / PACKAGE), read_layers(exports["16"].path))
    exact = {
        layer.weight: plain.weight(layer).astype(np.float64) for layer in plain.layers.values()
    }
    for name, wanted, error in (("palettize", {}, 4e-4), ("quantize_weights", {}, 2e-3)):
        small = compress(exports["16"], tmp_path / name, name, **wanted)
        reader = Editor(read_package(small.path / PACKAGE), read_layers(small.path))._reader
        for op in operations(small):
            if op.type not in CONSTEXPR:
                continue
            arguments = {k: reader.read(v) for k, v in op.attributes.items() if k != "name"}
            dense = CONSTEXPR[op.type](**arguments).astype(np.float64)
            weight = exact[op.outputs[0].name]
            assert np.square(dense - weight).sum() < error * np.square(weight).sum()
            if name == "palettize":
                assert len(np.unique(dense)) <= 256
            else:
                rows, near = weight.reshape(len(weight), -1), dense.reshape(len(weight), -1)
                span = np.maximum(rows.max(1), 0) - np.minimum(rows.min(1), 0)
                assert (np.abs(near - rows).max(1) <= 1.02 * span / 255).all()


@pytest.mark.parametrize(
    ("name", "wanted", "version", "remedy"),
    [
        ("palettize", {}, "15", 'os: "16"'),
        ("quantize_weights", {}, "15.4", 'os: "16"'),
        ("palettize", {"bits": 3}, "17", 'os: "18"'),
        ("palettize", {"bits": 3}, None, 'os: "18"'),
        ("palettize", {"layers": {"head": 3}}, "17", "choose 2 or 4 bits"),
        ("palettize", {"group_size": 16}, "16", "remove group_size"),
        ("quantize_weights", {"bits": 4}, "17", "choose 8 bits"),
    ],
)
def test_an_older_system_is_refused_with_the_remedy(name, wanted, version, remedy) -> None:
    step = STEPS[name]
    reason = plugin.refuse(step, step.params.model_validate(wanted), Target(PHONE, version))
    assert reason is not None
    assert remedy in reason
    assert f"`{name}`" in reason


def test_newer_systems_are_not_refused() -> None:
    for name, wanted in (("palettize", {"bits": 4}), ("quantize_weights", {})):
        for version in (None, "16", "17", "18"):
            params = STEPS[name].params.model_validate(wanted)
            assert plugin.refuse(STEPS[name], params, Target(PHONE, version)) is None


@pytest.mark.parametrize("bits", [0, 5, 7, 9])
def test_bits_that_core_ml_has_not_are_refused(bits) -> None:
    with pytest.raises(ValidationError, match="bits"):
        STEPS["palettize"].params.model_validate({"bits": bits})


def test_a_second_time_is_an_error(exports, tmp_path) -> None:
    for name in ("palettize", "quantize_weights"):
        small = compress(exports["16"], tmp_path / f"{name}-1", name)
        with pytest.raises(PlanRefused, match="Remove the step"):
            compress(small, tmp_path / f"{name}-2", name)


def test_a_damaged_package_is_refused(exports, tmp_path) -> None:
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(exports["16"].path, folder)
    weights = next(folder.rglob("weight.bin"))
    weights.write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(StepFailed, match="damaged"):
        compress(Artifact("mlpackage", folder, ""), tmp_path / "w", "palettize")


@pytest.mark.coco
def test_sizes_on_coco(coco, tmp_path) -> None:
    plain = export(load(coco.weights, tmp_path / "load"), tmp_path / "plain", side=640)
    assert size(compress(plain, tmp_path / "p", "palettize")) <= 3_400_000
    assert size(compress(plain, tmp_path / "q", "quantize_weights")) <= 3_400_000
