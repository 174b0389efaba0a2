"""One suite that every registered backend must pass; see docs/adding-a-backend.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import suite
from numpy.typing import NDArray
from pydantic import ValidationError
from suite import Built

from yolodeploy.backend import (
    Artifact,
    Backend,
    Counting,
    Device,
    Examining,
    Parted,
    Runtime,
    Step,
    Target,
)
from yolodeploy.backend.params import Params
from yolodeploy.errors import YolodeployError
from yolodeploy.reproduce.artifact_diff import differing

Images = NDArray[np.float32]

FP32_BOX = 0.01  # pixels
FP32_SCORE = 1e-4
REDUCED_BOX = 0.01 * suite.IMGSZ.width
REDUCED_SCORE = 0.02


def test_backends_are_registered():
    assert suite.plugins(), "no entry point in yolodeploy.backends. Run: pip install -e '.[dev]'"


def test_import_brings_no_toolchain(name, tmp_path):
    seconds, loaded = suite.import_cost(suite.modules()[name], tmp_path)
    assert not loaded & suite.TOOLCHAINS
    if seconds >= 0.3:  # once more, for other programs can slow it down
        seconds, _ = suite.import_cost(suite.modules()[name], tmp_path)
    assert seconds < 0.3


def test_members(plugin: Backend):
    assert isinstance(plugin, Backend)
    assert plugin.NAME
    assert plugin.STEPS
    assert all(isinstance(step, Step) for step in plugin.STEPS)
    assert all(isinstance(device, Device) for device in plugin.DEVICES)
    names = [step.name for step in plugin.STEPS]
    assert len(set(names)) == len(names)


def test_device_names_are_unique_over_all_backends():
    names = [device.name for plugin in suite.plugins().values() for device in plugin.DEVICES]
    assert len(set(names)) == len(names)


def test_devices_say_what_they_are_and_who_says_so(plugin: Backend):
    for device in plugin.DEVICES:
        assert device.title
        assert device.os
        assert device.source.startswith("https://"), device.name
        assert device.title.endswith("(generic)") == device.generic


def test_parameters_are_frozen_strict_and_documented(plugin: Backend):
    for step in plugin.STEPS:
        params = step.params()
        assert isinstance(params, Params)
        assert step.params.model_config.get("frozen")
        with pytest.raises(ValidationError):
            step.params.model_validate({"no_such_parameter": 1})
        for field, info in step.params.model_fields.items():
            assert info.description, f"{step.name}.{field} has no description"


def test_steps_chain_from_a_checkpoint(plugin: Backend):
    formats = suite.reachable_formats(plugin)
    assert {step.accepts for step in plugin.STEPS} <= formats


def test_reference_gives_parameters_of_the_same_step(plugin: Backend):
    for step in plugin.STEPS:
        for params in suite.variants(step):
            if step.reference is not None:
                reference = step.reference(params)
                assert isinstance(reference, step.params)
                assert step.reference(reference) == reference


def test_versions_are_plain_text(plugin: Backend):
    versions = plugin.versions()
    assert versions == plugin.versions()
    assert all(isinstance(text, str) and text for pair in versions.items() for text in pair)
    if plugin.problem() is None:
        assert "missing" not in versions.values()


def test_problem_is_none_or_a_sentence(plugin: Backend):
    problem = plugin.problem()
    assert problem is None or suite.is_sentence(problem)


def test_refuse_answers_for_every_step_and_device(plugin: Backend):
    for device in plugin.DEVICES or (suite.NOWHERE,):
        for version in (None, device.os_min, device.os_max):
            for step in plugin.STEPS:
                for params in suite.variants(step):
                    reason = plugin.refuse(step, params, Target(device, version))
                    assert reason is None or suite.is_sentence(reason)


def test_step_makes_plain_files(built: Built):
    found = list(suite.files(built.artifact.path))
    assert found
    assert all(path.is_file() and not path.is_symlink() for path in found)
    assert built.artifact.format == suite.first_step(built.plugin).produces


@pytest.mark.slow
def test_same_bytes_in_two_processes(built: Built, elsewhere: suite.Elsewhere, tmp_path: Path):
    task = replace(built.job, work=str(tmp_path / "another place" / "work"))
    assert elsewhere.digests(task) == suite.digests(built.artifact.path)


def _open(built: Built, artifact: Artifact | None = None) -> Callable[[Images], Images]:
    target = suite.target(built.plugin)
    return built.plugin.open(artifact or built.artifact, target, suite.THREADS)


def test_output_has_the_contract_shape_and_range(built: Built, images: Images, expected: Images):
    output = _open(built)(images)
    assert output.dtype == np.float32
    assert output.shape == expected.shape
    assert np.isfinite(output).all()
    assert output[:, 4:].min() >= 0
    assert output[:, 4:].max() <= 1


def test_predictor_says_what_it_ran_on(built: Built):
    runtime = built.plugin.open(built.artifact, suite.target(built.plugin), 2).runtime
    assert isinstance(runtime, Runtime)
    assert runtime.name
    assert runtime.version
    assert runtime.device
    assert runtime.threads == 2


def test_output_agrees_with_the_source(built: Built, images: Images, expected: Images):
    difference = np.abs(_open(built)(images) - expected)
    box, score = difference[:, :4], difference[:, 4:]
    print(f"largest difference: {box.max():.4g} px, score {score.max():.2g}")
    if getattr(built.params, "precision", "fp32") == "fp32":
        assert box.max() <= FP32_BOX
        assert score.max() <= FP32_SCORE
    else:
        # Rounded weights move boxes that nobody looks at by pixels; the likely ones must stay.
        likely = np.argsort(expected[:, 4:].max(1), axis=1)[:, -20:]
        assert np.take_along_axis(box.max(1), likely, axis=1).max() <= REDUCED_BOX
        assert score.max() <= REDUCED_SCORE


def test_a_batch_is_its_images_one_by_one(built: Built, images: Images):
    predictor = _open(built)
    single = np.concatenate([predictor(image[None]) for image in images])
    np.testing.assert_allclose(predictor(images), single, rtol=0, atol=1e-3)


def test_images_are_not_altered(built: Built, images: Images):
    before = images.copy()
    _open(built)(images)
    assert np.array_equal(images, before)


def test_description_matches_files_and_shapes(built: Built, expected: Images):
    interface = built.plugin.describe(built.artifact)
    assert (built.artifact.path / interface.entry).exists()
    assert interface.scale > 0
    (image,) = interface.inputs
    assert _matches(image.shape, suite.IMGSZ.batch[1:])
    assert any(_matches(tensor.shape, expected.shape[1:]) for tensor in interface.outputs)
    for tensor in (*interface.inputs, *interface.outputs):
        assert tensor.name
        assert tensor.dtype
        assert tensor.meaning


def _matches(shape: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """Whether a shape ends with the sizes; -1 stands for any size, a batch may precede."""
    return len(shape) in (len(sizes), len(sizes) + 1) and all(
        claimed in (-1, size)
        for claimed, size in zip(reversed(shape), reversed(sizes), strict=False)
    )


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def test_inspection_agrees_with_the_description(built: Built, macs: int):
    suite.check_inspection(built.plugin, built.artifact, macs)


def test_the_checkpoint_is_inspected_as_it_is_counted(checkpoint: Path, loaded: Artifact):
    plugin = suite.plugins()[suite.loader()[0]]
    assert isinstance(plugin, Examining)
    assert isinstance(plugin, Counting)
    weights, model = plugin.inspect(checkpoint), plugin.inspect(loaded.path)
    assert weights is not None
    assert model is not None
    assert (weights.format, model.format) == (".pt", loaded.format)
    assert weights.imgsz is not None
    counted = plugin.count(loaded, weights.imgsz)
    assert (weights.parameters, weights.macs) == (counted.parameters, counted.macs)
    assert model.parameters == weights.parameters
    assert [part.layers for part in model.parts] == [part.layers for part in weights.parts]


@pytest.mark.parametrize("damage", [_halve, _empty, Path.unlink])
def test_damaged_artifacts_are_refused(built: Built, tmp_path: Path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(built.artifact.path, folder)
    damage(max(suite.files(folder), key=lambda path: path.stat().st_size))
    with pytest.raises(YolodeployError) as caught:
        _open(built, Artifact(built.artifact.format, folder, ""))
    assert len(str(caught.value).split()) >= 4


def test_a_changed_weight_is_named(built: Built, tmp_path: Path):
    """One bit in the middle of the largest file: the weight that it belongs to is named, and no other."""
    assert not differing(built.plugin, built.artifact, built.artifact)
    other = tmp_path / "other"
    shutil.copytree(built.artifact.path, other)
    largest = max(suite.files(other), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o644)
    largest.write_bytes(data)
    lines = differing(built.plugin, built.artifact, Artifact(built.artifact.format, other, ""))
    assert len(lines) == 1, lines
    file, _, part = lines[0].partition(": ")
    assert file == largest.relative_to(other).as_posix()
    if isinstance(built.plugin, Parted) or largest.suffix == ".safetensors":
        assert part.endswith(" differs")
        assert not part.startswith("content")
