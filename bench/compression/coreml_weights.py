"""Core ML weights: palettes and integers beside coremltools' own, with its defaults and without them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import Bench
from bench.compression.coreml_w8a8 import megabytes, opened, source
from bench.compression.judge import Judge

IMAGES = 32
TARGET = '{device: iphone-13, os: "16"}'
EXPORT = "{export: {precision: fp16}}"
OURS = {
    "quantize_weights: {}": "goal: <= 3.4 MB, drop <= 0.002",
    "palettize: {}": "goal: build <= 0.2x coremltools' k-means",
    "palettize: {optimize: accuracy}": "goal: <= 2.7 MB, drop <= 0.002",
    "palettize: {optimize: accuracy, max_mb: 1.9}": "goal: <= 1.9 MB, drop <= 0.01",
    "palettize: {optimize: size}": "",
}


def coreml(bench: Bench) -> None:
    """Size, CPU time and accuracy of both, from the same fp16 export; no training anywhere."""
    exported = bench.built(bench.compressed("coreml-fp16", TARGET, f"[{EXPORT}]", IMAGES))
    judge = Judge(source(bench), bench.evaluation(), bench.imgsz)

    def report(name: str, package: Path, cpu: float, note: str = "") -> None:
        verdict = judge(opened(package))
        print(f"{name:<46} {megabytes(package):.2f} MB, {cpu:5.1f} CPU s, {verdict}  {note}", flush=True)  # fmt: skip

    report("fp16 export", exported / "model.mlpackage", 0.0)
    for name, compress in _theirs().items():
        package, cpu = _run(bench, exported / "model.mlpackage", name, compress)
        report(f"coremltools, {name}", package, cpu)
    for number, (step, goal) in enumerate(OURS.items()):
        recipe = bench.compressed(f"coreml-{number}", TARGET, f"[{EXPORT}, {{{step}}}]", IMAGES)
        cpu = bench.build(recipe).cpu  # the whole process; the export is in the store
        report(step, bench.built(recipe) / "model.mlpackage", cpu, goal)


def _theirs() -> dict[str, Callable[[Any], Any]]:
    import coremltools.optimize.coreml as cto

    def palettes(bits: int, **kind: Any) -> Callable[[Any], Any]:
        one = cto.OpPalettizerConfig(mode="kmeans", nbits=bits)
        if kind.get("everything"):
            return lambda model: cto.palettize_weights(model, cto.OptimizationConfig(one))
        config = cto.OptimizationConfig(op_type_configs={"conv": one})
        return lambda model: cto.palettize_weights(model, config)

    linear = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    return {
        "8-bit linear, defaults": lambda model: cto.linear_quantize_weights(model, linear),
        "8-bit k-means, convolutions": palettes(8),
        "6-bit k-means, defaults": palettes(6, everything=True),
        "4-bit k-means, convolutions": palettes(4),
    }


def _run(
    bench: Bench, package: Path, name: str, compress: Callable[[Any], Any]
) -> tuple[Path, float]:
    from yolodeploy_coreml.toolchain import coremltools, quiet

    result = bench.work / f"{name.replace(' ', '-').replace(',', '')}.mlpackage"
    with quiet():
        model = coremltools().models.MLModel(str(package), skip_model_load=True)
        start = time.process_time()
        compress(model).save(str(result))
        return result, time.process_time() - start
