"""Our measures of every task against Ultralytics' `val`, on the outputs of the same network, and the time of both."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT, Bench
from yolodeploy.backend import OUTPUT, PROTOTYPES, ModelInfo
from yolodeploy.data import Dataset, load_view
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import primary_score, task_of

TASKS = {"segment": "seg", "pose": "pose", "obb": "obb", "classify": "cls"}
SIDES = {"classify": 64}  # of the images; of the other tasks 160
IMAGES = 128
RUNS = 3
# Masks at the resolution of the images, not at a quarter of the input's.
OPTIONS: dict[str, dict[str, Any]] = {"segment": {"save_json": True, "mask_ratio": 1}}


def agreement(bench: Bench) -> None:
    """One row for each demo model of another task than detection: `models/shapes-*-seg.pt` and so on."""
    print(
        "| model | primary measure | ours | val | difference (<= 0.005) | plain val | s, ours / plain val (<= 1) |"
    )
    print("|---|---|---|---|---|---|---|")
    for task, suffix in TASKS.items():
        for weights in sorted((ROOT / "models").glob(f"shapes-*-{suffix}.pt")):
            row(bench, task, weights, ROOT / "examples" / "shapes" / f"data-{task}")


def row(bench: Bench, task: str, weights: Path, given: Path) -> None:
    """Measure one model on the data set in a folder, the same images for both sides."""
    import torch
    from ultralytics import YOLO

    folder, side = bench.work / f"agreement-{task}", SIDES.get(task, 160)
    data = folder if task == "classify" else folder / "data.yaml"
    view = _few(given, folder, task)
    points = view.keypoints.shape if view.keypoints else None
    info = ModelInfo(task, view.names, (), 0, kpt_shape=points)
    size, measured = info.images(ImageShape.square(side)), task_of(info)
    options = {"imgsz": side, "rect": False, "batch": 1, "workers": 0, "plots": False}
    options |= {"verbose": False, "project": str(bench.work)}
    torch.set_num_threads(1)  # or threads of a busy machine wait for each other
    ours, plain = Timed(), Timed()
    for _ in range(RUNS):  # in turns, each with a network of its own
        network = _Network(YOLO(weights).model)
        ours.run(partial(primary_score, network, view, size, measured, "one-to-many"))
        plain.run(partial(_val, YOLO(weights), task, data=str(data), **options))
    theirs = plain.value
    if more := OPTIONS.get(task):
        theirs = _val(YOLO(weights), task, data=str(data), **options, **more)
    print(
        f"| {weights.stem} | {measured.primary} | {ours.value:.4f} | {theirs:.4f} | {ours.value - theirs:+.4f} "
        f"| {plain.value:.4f} | {ours.seconds:.1f} / {plain.seconds:.1f} = {ours.seconds / plain.seconds:.2f} |",
        flush=True,
    )


@dataclass
class Timed:
    """A measure, and the least wall time of the runs that gave it."""

    value: float = 0.0
    seconds: float = float("inf")

    def run(self, measure: Callable[[], float]) -> None:
        """Measure once more."""
        start = time.perf_counter()
        self.value = measure()
        self.seconds = min(self.seconds, time.perf_counter() - start)


class _Network:
    """Ultralytics' network as a predictor: what it returns, by name."""

    def __init__(self, network: Any) -> None:
        self._network = network.eval().float()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            found = list(_arrays(self._network(torch.from_numpy(images))))
        maps = [each for each in found if each.ndim == 4 and each.shape[1] == 32]
        return {OUTPUT: found[0], **({PROTOTYPES: maps[0]} if maps else {})}


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The arrays in tuples of tensors, in order."""
    if hasattr(value, "numpy"):
        yield value.numpy()
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _arrays(each)


def _few(given: Path, folder: Path, task: str) -> Dataset:
    """Copy a data set with at most `IMAGES` images to validate on; Ultralytics leaves a cache beside the labels."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(given, folder, ignore=shutil.ignore_patterns("*.cache"))
    file = folder if task == "classify" else folder / "data.yaml"
    if task != "classify":
        text = file.read_text(encoding="utf-8")
        file.write_text(f"path: {folder}\n{text}", encoding="utf-8")
    view = load_view(file, View(), 0, task=task)
    kept = set(view.spread(IMAGES).images)
    for image in view.images:
        if image not in kept:
            image.unlink()
    return load_view(file, View(), 0, task=task)


def _val(model: Any, task: str, **options: Any) -> float:
    """The measure of `val` that decides."""
    found = model.val(**options)
    if task == "classify":
        return float(found.top1)
    part = found.seg if task == "segment" else found.pose if task == "pose" else found.box
    return float(part.map)
