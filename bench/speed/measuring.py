"""What measuring costs: a whole deploy against `yolo export` and `yolo val`, a second target, many images."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.common import DEVICES, Bench
from bench.compression.intel import IMAGES, OFFLINE, data_set
from bench.process import BIN, Run, in_turns, median, ratio, run
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe.fields import View
from yolodeploy.tasks.average_precision import drop_intervals
from yolodeploy.tasks.detection.matching import Truth, matches
from yolodeploy.tasks.detection.postprocess import Detections

MANY = 5000
SIDE = 160  # pixels, for the many images: what is kept of an image does not depend on its size


@dataclass(frozen=True)
class _Pair:
    """Seconds of measuring: the first target on a store, and the second; and of those, without latencies."""

    first: float
    second: float
    first_accuracy: float
    second_accuracy: float


def measuring(bench: Bench) -> None:
    """Whole processes in turns, then the bootstrap alone, then memory."""
    count = min(IMAGES, len(bench.calibration()))
    images = load_view(bench.options.data, View(split="train", images=count), 0).images
    calibration = data_set(bench, "peer-calibration", images, images)
    evaluation = data_set(bench, "peer-evaluation", images[:1], bench.evaluation().images)
    recipe = bench.compressed("measuring-int8", DEVICES["intel"], "[export, quantize]", count)
    second = bench.write("measuring-ncnn", DEVICES["android"], "[export]", "evaluation: {}")
    pairs: list[_Pair] = []
    ours, theirs = in_turns(
        bench.options.runs,
        lambda: _ours(bench, recipe, second, pairs),
        lambda: _theirs(bench, calibration, evaluation),
    )
    for title, runs in (("yolodeploy deploy", ours), ("yolo export, yolo val", theirs)):
        print(
            f"{title:<24} {median(runs, 'wall'):5.1f} s, {median(runs, 'cpu'):5.1f} CPU s, "
            f"{median(runs, 'peak_mb'):5.0f} MB peak ({len(runs)} runs)"
        )
    _line("wall time, ours / theirs", ratio(ours, theirs, "wall"), "<= 0.8")
    _line("CPU time, ours / theirs", ratio(ours, theirs, "cpu"), "-")
    _line("peak memory, ours / theirs", ratio(ours, theirs, "peak_mb"), "<= 0.9")
    shares = [pair.second / pair.first for pair in pairs]
    _line("measuring, second / first target", statistics.median(shares), "<= 0.5")
    shares = [pair.second_accuracy / pair.first_accuracy for pair in pairs]
    _line("without latencies", statistics.median(shares), "-")
    for number in (len(bench.evaluation()), MANY):
        goal = "<= 3" if number == MANY else "<= 0.5"
        _line(f"bootstrap of {number} images, s", _bootstrap(number), goal)
    _memory(bench)


def _line(what: str, value: float, goal: str) -> None:
    print(f"{what:<36} {value:.3f} (goal {goal})", flush=True)


def _ours(bench: Bench, recipe: Path, second: Path, pairs: list[_Pair]) -> Run:
    """Deploy in an empty store, then another target in the same store; only the first counts as the run."""
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        store = Path(folder) / "cache"
        result = _deploy(bench, recipe, store)
        first, accuracy = _measured(store), _compared(store)
        _deploy(bench, second, store)
        pairs.append(_Pair(first, _measured(store) - first, accuracy, _compared(store) - accuracy))
    return result


def _deploy(bench: Bench, recipe: Path, store: Path) -> Run:
    command = [BIN / "yolodeploy", "deploy", "--allow", "/", recipe, "-q", "--cache", store]
    return run([*command, "--dist", store.parent / "dist"], bench.work)


def _measured(store: Path) -> float:
    """Seconds that everything that was measured took; the source model's are part of the evidence's."""
    described = [json.loads(file.read_text()) for file in store.glob("objects/??/*/meta.json")]
    taken = [meta for meta in described if meta["step"] == "measure" and meta["format"] != "source"]
    return float(sum(meta["seconds"] for meta in taken))


def _compared(store: Path) -> float:
    """Seconds of the passes over the evaluation images alone, without latencies."""
    described = [json.loads(file.read_text()) for file in store.glob("objects/??/*/meta.json")]
    return float(sum(meta["seconds"] for meta in described if meta["format"] == "evidence"))


def _theirs(bench: Bench, calibration: Path, evaluation: Path) -> Run:
    """Export with the peer and validate the result, as two processes; it calibrates on the split `val`."""
    size = f"imgsz={bench.options.imgsz}"
    with tempfile.TemporaryDirectory(dir=bench.work) as name:
        folder = Path(name)
        weights = shutil.copy(bench.options.weights, folder)
        export = ["export", f"model={weights}", "format=openvino", "quantize=8", size]
        first = run([BIN / "yolo", *export, f"data={calibration}"], folder, OFFLINE)
        (made,) = folder.glob("*_openvino_model")
        val = ["val", f"model={made}", size, f"data={evaluation}", "plots=False"]
        last = run([BIN / "yolo", *val, f"project={folder}"], folder, OFFLINE)
    peak = max(first.peak_mb, last.peak_mb)
    return Run(first.wall + last.wall, first.cpu + last.cpu, peak)


def _bootstrap(images: int) -> float:
    """CPU seconds of the interval, matching included, for two models with 300 detections per image."""
    random = np.random.default_rng(0)
    truths = [_truth(random) for _ in range(images)]
    models = [[_found(random, truth) for truth in truths] for _ in range(2)]
    start = time.process_time()
    pair = [matches(truths, found, 80) for found in models]
    drop_intervals(pair[0], pair[1])
    return time.process_time() - start


def _truth(random: np.random.Generator) -> Truth:
    from yolodeploy.data.dataset import Box

    rows = random.uniform(0.1, 0.9, (7, 2)).tolist()
    sides = random.uniform(0.05, 0.2, (7, 2)).tolist()
    classes = random.integers(0, 80, 7).tolist()
    boxes = (Box(c, *row, *side) for c, row, side in zip(classes, rows, sides, strict=True))
    return Truth(tuple(boxes), 640, 480)


def _found(random: np.random.Generator, truth: Truth) -> Detections:
    """Three detections near each label, and others anywhere."""
    corners = np.array(
        [
            (b.x - b.width / 2, b.y - b.height / 2, b.x + b.width / 2, b.y + b.height / 2)
            for b in truth.boxes
        ]
    ) * (640, 480, 640, 480)
    near = np.repeat(corners, 3, axis=0) + random.normal(0, 4, (3 * len(corners), 4))
    far = np.sort(random.uniform(0, 480, (300 - len(near), 4)))
    classes = np.r_[
        np.repeat([b.cls for b in truth.boxes], 3), random.integers(0, 80, len(far))
    ].astype(np.int64)
    scores = np.sort(random.random(300))[::-1].astype(np.float32)
    return Detections(np.concatenate([near, far]).astype(np.float32), scores, classes)


def _memory(bench: Bench) -> None:
    """Peak memory of a deploy that measures few and many images; links, so that they take no space."""
    few = len(bench.evaluation())
    peaks = {}
    for count in (few, MANY):
        data = _linked(bench, bench.evaluation().images, count)
        recipe = bench.work / f"measuring-{count}.yaml"
        recipe.write_text(
            f"name: {recipe.stem}\nmodel: {{weights: {bench.options.weights}, imgsz: {SIDE}}}\n"
            f"data: {{path: {data}}}\ntarget: {DEVICES['intel']}\nsteps: [export]\n"
        )
        peaks[count] = _deploy(bench, recipe, bench.work / "many" / "cache").peak_mb
        print(f"deploy that measures {count} images: peak {peaks[count]:.0f} MB", flush=True)
    _line(f"memory, {MANY} / {few} images", peaks[MANY] / peaks[few], "<= 1.1")


def _linked(bench: Bench, images: Sequence[Path], count: int) -> Path:
    """A data set of `count` images, each linked several times under another name."""
    folder = bench.work / f"linked-{count}"
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number in range(count):
        image = images[number % len(images)]
        target = folder / "images" / "val" / f"{number:05}{image.suffix}"
        target.symlink_to(image)
        label = Path(str(image.with_suffix(".txt")).replace("/images/", "/labels/"))
        if label.is_file():
            (folder / "labels" / "val" / f"{target.stem}.txt").symlink_to(label)
    file = folder / "data.yaml"
    names = "".join(f"  {n}: {name}\n" for n, name in enumerate(bench.evaluation().names))
    file.write_text(f"path: {folder}\ntrain: images/val\nval: images/val\nnames:\n{names}")
    return file
