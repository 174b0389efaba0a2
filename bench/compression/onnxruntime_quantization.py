"""int8 in ONNX Runtime: ours against `onnxruntime.quantization.quantize_static` with its defaults.

Both start from our fp32 export and read the same 32 images. Latencies are medians on one thread, in turns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT, Bench, detectors
from yolodeploy.backend import NO_MODEL, Artifact, Context, Load, ModelInfo, Target, load_registry
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape

DATA = ROOT / "examples" / "shapes" / "data" / "data.yaml"
SIZE = ImageShape(160, 160)
DROP, LATENCY, BYTES = 0.01, 0.6, 0.3  # goals: at most
TURNS, RUNS = 30, 5


def onnxruntime_quantization(bench: Bench) -> None:
    """One line per demo model and head, ours and theirs."""
    from yolodeploy_torch.checkpoint import facts

    print("| model | head | fp32 | int8 by | mAP50-95 | drop | size / fp32 | latency / fp32 |")
    print("|---|---|---|---|---|---|---|---|")
    missed = 0
    for weights in detectors():
        for head in facts(weights).heads:
            missed += _compare(weights, head, bench.work / f"{weights.stem}-{head}")
    print(
        f"\n{missed} of ours miss a goal: drop {DROP}, size {BYTES} and latency {LATENCY} times fp32's"
    )


def _compare(weights: Path, head: str, work: Path) -> int:
    registry = load_registry()
    plugin, torch = registry.backends["onnxruntime"], registry.backends["torch"]
    steps = {step.name: step for step in (*torch.STEPS, *plugin.STEPS)}
    target = Target(registry.devices()["linux-x64"])
    view = load_view(DATA, View(split="train", images=32), 0)

    def make(name: str, source: Artifact, params: Any, model: ModelInfo = NO_MODEL) -> Artifact:
        folder = work / name
        folder.mkdir(parents=True)
        data = {"calibration": view}
        context = Context(folder, 0, SIZE, 1, target, model, data, lambda *_: None)  # type: ignore[arg-type]
        step = steps[name]
        return Artifact(step.produces, step.run(source, params, context), "")

    loaded = make("load", Artifact(".pt", weights, ""), Load.model_validate({"head": head}))
    info = ModelInfo.read(loaded.path)
    export, quantize = (steps[name].params for name in ("export", "quantize"))
    exact = make("export", loaded, export.model_validate({"precision": "fp32"}), info)
    ours = make("quantize", exact, quantize(), info)
    theirs = Artifact(ours.format, _theirs(exact, view, work / "theirs"), "")
    made = {"fp32": exact, "ours": ours, "onnxruntime's defaults": theirs}
    predictors = {name: plugin.open(each, target, 1) for name, each in made.items()}
    scores = {name: _score(each, head) for name, each in predictors.items()}
    times = _latencies(predictors)
    sizes = {name: (each.path / "model.onnx").stat().st_size for name, each in made.items()}
    for name in ("ours", "onnxruntime's defaults"):
        drop = scores["fp32"] - scores[name]
        size, latency = sizes[name] / sizes["fp32"], times[name] / times["fp32"]
        print(
            f"| {weights.stem} | {head} | {scores['fp32']:.4f} | {name} | {scores[name]:.4f} | {drop:+.4f} | "
            f"{size:.3f} | {latency:.2f} |",
            flush=True,
        )
        if name == "ours":
            missed = drop > DROP or size > BYTES or latency > LATENCY
    return int(missed)


def _theirs(exact: Artifact, view: Any, folder: Path) -> Path:
    """What `quantize_static` makes of a file, after the preparation that its documentation asks for."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images: Iterator[Any] = iter(view.letterboxed(SIZE))

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._images, None)
            return None if image is None else {"images": image}

    folder.mkdir()
    quant_pre_process(str(exact.path / "model.onnx"), str(folder / "prepared.onnx"))
    quantize_static(str(folder / "prepared.onnx"), str(folder / "model.onnx"), Reader())
    return folder


def _score(predictor: Any, head: Any) -> float:
    from yolodeploy.tasks import primary_score
    from yolodeploy.tasks.detection import Detect

    view = load_view(DATA, View(split="val"), 0)
    return primary_score(predictor, view, SIZE, Detect(view.names), head)


def _latencies(predictors: dict[str, Any]) -> dict[str, float]:
    image = next(load_view(DATA, View(split="val", images=1), 0).letterboxed(SIZE))
    found: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(TURNS):
        for name, predict in predictors.items():
            predict(image)
            for _ in range(RUNS):
                start = time.perf_counter()
                predict(image)
                found[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in found.items()}
