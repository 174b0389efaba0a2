"""Core ML W8A8 beside coremltools' own `linear_quantize_activations` and `linear_quantize_weights`.

coremltools measures ranges on a Mac only. What it does with them is run here: version 9 keeps the
least and greatest value of the last sample, which our executor supplies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from bench.common import Bench
from bench.compression.judge import Judge, Predict

IMAGES = 32
THREADS = 1  # more would wait for each other on a busy machine
GOAL = "goal: drop <= 0.015 without training"
TARGET = '{device: iphone-15-pro, os: "17"}'
EXPORT = "{export: {precision: fp16}}"


def coreml_w8a8(bench: Bench) -> None:
    """Accuracy, size and CPU time of both on the same calibration images, then our memory."""
    float_recipe = bench.compressed("coreml-float", TARGET, f"[{EXPORT}]", IMAGES)
    recipe = bench.compressed("coreml-w8a8", TARGET, f"[{EXPORT}, quantize]", IMAGES)
    exported = bench.built(float_recipe)
    ours = bench.build(recipe)
    start = time.process_time()
    theirs = _theirs(bench, exported / "model.mlpackage")
    seconds = time.process_time() - start
    judge = Judge(source(bench), bench.evaluation(), bench.imgsz)
    for name, package, cpu in (
        ("fp16 export", exported / "model.mlpackage", 0.0),
        ("yolodeploy", bench.built(recipe) / "model.mlpackage", ours.cpu),
        ("coremltools", theirs, seconds),
    ):
        print(f"{name:<12} {megabytes(package):.2f} MB, {cpu:5.1f} CPU s, {judge(opened(package))}", flush=True)  # fmt: skip
    print(GOAL)
    _memory(bench)


def megabytes(package: Path) -> float:
    """Size of a package."""
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) / 1e6


def opened(package: Path) -> Predict:
    """The package in our executor."""
    from yolodeploy_coreml.runtime.predictors import ExecutorPredictor

    return ExecutorPredictor(package, THREADS)


def source(bench: Bench) -> Predict:
    """The checkpoint itself, in PyTorch."""
    import yolodeploy_torch
    from yolodeploy.backend import NO_MODEL, Artifact, Context, Device, Target

    step = next(step for step in yolodeploy_torch.STEPS if step.name == "load")
    target, work = Target(Device("none", "none", "none")), bench.work / "source"
    work.mkdir()
    context = Context(
        work, 0, bench.imgsz, THREADS, target, NO_MODEL, {}, lambda _done, _text: None
    )
    folder = step.run(Artifact(".pt", Path(bench.options.weights), ""), step.params(), context)
    return yolodeploy_torch.open(Artifact("yolo", folder, ""), target, THREADS)


def _theirs(bench: Bench, package: Path) -> Path:
    """Quantize with coremltools' defaults; return the package."""
    from yolodeploy_coreml.toolchain import coremltools, quiet

    ct = coremltools()
    import coremltools.optimize.coreml as cto

    ranges, result = _ranges(bench, package), bench.work / "theirs.mlpackage"
    module = "coremltools.optimize.coreml._post_training_quantization"
    with quiet(), mock.patch(f"{module}._get_activation_calibration_stats", return_value=ranges):
        model = ct.models.MLModel(str(package), skip_model_load=True)
        settings = cto.OpLinearQuantizerConfig(mode="linear_symmetric")
        config = cto.OptimizationConfig(global_config=settings)
        model = cto.linear_quantize_activations(model, config, [{"image": None}])
        cto.linear_quantize_weights(model, config).save(str(result))
    return result


def _ranges(bench: Bench, package: Path) -> dict[str, dict[str, float]]:
    """Least and greatest value of everything in the last sample, concatenations evened out."""
    from coremltools.optimize._utils import _adjust_concat_surrounding_activation_stats

    from yolodeploy_coreml.mlpackage.layers import block_of
    from yolodeploy_coreml.mlpackage.package import read_package
    from yolodeploy_coreml.runtime.executor import Program

    opened, found = read_package(package), {}

    def watch(name: str, value: Any) -> None:
        if value.is_floating_point():
            found[name] = {"rmin": float(value.min()), "rmax": float(value.max())}

    program = Program(opened)
    for image in _images(bench):
        program(image, watch)
    joined = [
        [binding.name for binding in op.inputs["values"].arguments] + [op.outputs[0].name]
        for op in block_of(opened.spec).operations
        if op.type == "concat"
    ]
    _adjust_concat_surrounding_activation_stats(joined, found)
    return found


def _images(bench: Bench) -> Iterator[Any]:
    import torch

    for image in bench.calibration().spread(IMAGES).letterboxed(bench.imgsz):
        yield torch.from_numpy(image) * 255


def _memory(bench: Bench) -> None:
    """Peak memory of calibrating on few and on many images, the export being in the store."""
    peaks = {}
    for count in (64, 512):
        data = _repeated(bench, count)
        recipe = bench.work / f"coreml-calibration-{count}.yaml"
        recipe.write_text(
            f"name: {recipe.stem}\n"
            f"model: {{weights: {bench.options.weights}, imgsz: {bench.options.imgsz}}}\n"
            f"data: {{path: {data}, calibration: {{split: train}}}}\ntarget: {TARGET}\n"
            f"steps: [{EXPORT}, quantize]\n"
        )
        peaks[count] = bench.build(recipe).peak_mb
        print(f"quantize with ranges from {count} images: peak {peaks[count]:.0f} MB", flush=True)
    print(f"calibration memory 512 / 64 images {peaks[512] / peaks[64]:.3f} (goal <= 1.1)")


def _repeated(bench: Bench, count: int) -> Path:
    """A data set of `count` calibration images, the real ones as often as it takes."""
    folder = bench.work / f"coreml-calibration-{count}"
    for split, images in (("train", bench.calibration().images), ("val", bench.evaluation().images[:1])):  # fmt: skip
        (folder / "images" / split).mkdir(parents=True)
        for number in range(count if split == "train" else 1):
            image = images[number % len(images)]
            (folder / "images" / split / f"{number:04}-{image.name}").symlink_to(image)
    file = folder / "data.yaml"
    names = "".join(f"  {n}: {name}\n" for n, name in enumerate(bench.calibration().names))
    file.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return file
