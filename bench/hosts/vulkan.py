"""NCNN on a Vulkan device against NCNN on the CPU: every demo model, and what its other files would give on a GPU.

Without a GPU the device is Mesa's lavapipe (apt-get install mesa-vulkan-drivers), which runs ncnn's shaders on the CPU.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import yolodeploy_ncnn
import yolodeploy_torch
from bench.common import ROOT, Bench
from yolodeploy.backend import NO_MODEL, OUTPUT, Artifact, Context, Load, ModelInfo, Target
from yolodeploy.data import Dataset, load_view
from yolodeploy.recipe import View
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Key, Tally, accuracy, evaluate, one, task_of
from yolodeploy_ncnn.decode import FEATURE_MASK, ON_CPU
from yolodeploy_ncnn.param_file import PARAM_FILE
from yolodeploy_ncnn.runtime import NcnnPredictor

IMAGES, FEW = 64, 8  # for what is found, for outputs
SURE = 0.25  # the score from which an anchor counts
FORMS = ("fp32", "fp16", "w8")
DATA = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}
_PHONE = next(device for device in yolodeploy_ncnn.DEVICES if device.name == "pixel-8")
_CPU, _GPU = Target(_PHONE), Target(_PHONE, gpu="vulkan")
_EXPORT, _W8, _ = yolodeploy_ncnn.STEPS
_MASK = re.compile(rf" {FEATURE_MASK}={ON_CPU}$", re.MULTILINE)


def vulkan(bench: Bench) -> None:
    """Each model in each form: a file made for the GPU, on the GPU against the CPU, and two files that are not."""
    if problem := yolodeploy_ncnn.gpu_here(_GPU).problem:
        print(problem)
        return
    print(
        "| model | form | CPU | GPU | fidelity | off at most | decoded on the GPU, too | made for the CPU | falls back "
        "| copies up, down |"
    )
    print(f"|{'---|' * 10}")
    for weights in sorted((ROOT / "models").glob("*.pt")):
        model = _Model(weights, bench.work / "vulkan" / weights.stem)
        for form in FORMS:
            print(model.row(form), flush=True)
        shutil.rmtree(model.folder)
    print(f"\non {dict(yolodeploy_ncnn.gpu_here(_GPU).conditions)}")


@dataclass(frozen=True)
class Gap:
    """How far outputs are off at most, in pixels and in scores, at anchors that count; `finite` if all are numbers."""

    pixels: float = 0.0
    score: float = 0.0
    finite: bool = True

    def worst(self, other: Gap) -> Gap:
        """The larger of both."""
        return Gap(
            max(self.pixels, other.pixels),
            max(self.score, other.score),
            self.finite and other.finite,
        )

    def __str__(self) -> str:
        return f"{self.pixels:.2f} px, {self.score:.3f}" if self.finite else "not numbers"


class _Model:
    """A demo model, its evaluation images, and its files for ncnn."""

    def __init__(self, weights: Path, folder: Path) -> None:
        kind = DATA.get(weights.stem.split("-")[-1], "")
        self.name, self.folder = weights.stem, folder
        self.size = ImageShape.square(64 if kind == "classify" else 160)
        data = ROOT / "examples" / "shapes" / (f"data-{kind}" if kind else "data")
        file = data if kind == "classify" else data / "data.yaml"
        loaded = yolodeploy_torch.STEPS[0].run(
            Artifact(".pt", weights, ""), Load(), self._context("load", NO_MODEL)
        )
        self.source = Artifact("yolo", loaded, "")
        self.info = ModelInfo.read(loaded)
        self.view: Dataset = load_view(file, View(images=IMAGES), 0, task=self.info.task)

    def row(self, form: str) -> str:
        """A line of the table."""
        ours, theirs = self._made(form, _GPU), self._made(form, _CPU)
        gpu = NcnnPredictor(ours.path, 1, _PHONE)
        tally = self._compared(NcnnPredictor(ours.path, 1), gpu)
        measures = accuracy(tally, labelled=True)
        score, fidelity = one(measures, tally.task.primary), one(measures, Key.FIDELITY)
        gaps = [self._gap(ours, each) for each in (ours, self._unmasked(ours), theirs)]
        told = gpu.runtime.note
        fallen = told.partition("fall back to it: ")[2].partition(";")[0]
        types = Counter(each.split()[0] for each in fallen.split(", ") if each)
        falls = ", ".join(f"{count} {type_}" for type_, count in types.items()) or "none"
        moves = re.findall(r"tensors: (\d+) to the GPU, (\d+) back", told)[0]
        return (
            f"| {self.name} | {form} | {score.source:.4f} | {score.artifact:.4f} | {fidelity.artifact:.4f} "
            f"| {' | '.join(map(str, gaps))} | {falls} | {', '.join(moves)} |"
        )

    def _context(self, name: str, info: ModelInfo, target: Target = _CPU) -> Context:
        work = self.folder / name
        work.mkdir(parents=True)
        return Context(work, 0, self.size, 1, target, info, {}, lambda *_: None)

    def _made(self, form: str, target: Target) -> Artifact:
        precision = "fp32" if form == "fp32" else "fp16"
        name = f"{form}-{target.gpu}"
        params = _EXPORT.params(precision=precision)
        made = _EXPORT.run(self.source, params, self._context(name, self.info, target))
        if form == "w8":
            given = self._context(f"{name}-w8", self.info, target)
            made = _W8.run(Artifact("ncnn", made, ""), _W8.params(), given)
        return Artifact("ncnn", made, "")

    def _unmasked(self, artifact: Artifact) -> Artifact:
        """The file as a plain conversion leaves it: everything runs on the GPU."""
        folder = shutil.copytree(artifact.path, artifact.path.parent / "unmasked")
        text = _MASK.sub("", (folder / PARAM_FILE).read_text())
        (folder / PARAM_FILE).write_text(text)
        return Artifact("ncnn", folder, "")

    def _compared(self, cpu: NcnnPredictor, gpu: NcnnPredictor) -> Tally:
        """What both found, the CPU in the place of the source model."""
        task = task_of(self.info)
        tally = Tally(task)
        for seen in evaluate(self.view, self.size, [cpu], [gpu], task=task, head=self.info.head):
            tally.add(seen, seen.outputs[0])
            tally.source.append(seen.found(0))
        return tally

    def _gap(self, cpu: Artifact, gpu: Artifact) -> Gap:
        """How far a file is off on the GPU, against another on the CPU."""
        right, wrong = NcnnPredictor(cpu.path, 1), NcnnPredictor(gpu.path, 1, _PHONE)
        task, gap = task_of(self.info), Gap()
        few = self.view.spread(FEW)
        for seen in evaluate(few, self.size, [right], [wrong], task=task, head=self.info.head):
            gap = gap.worst(_gap(*(each[OUTPUT] for each in seen.outputs), len(task.names)))
        return gap


def _gap(right: np.ndarray, wrong: np.ndarray, classes: int) -> Gap:
    if not np.isfinite(wrong).all():
        return Gap(finite=False)
    off = np.abs(right - wrong)
    if right.ndim == 1:
        return Gap(0.0, float(off.max()))
    scores = slice(4, 4 + classes)
    sure = np.maximum(right[scores].max(0), wrong[scores].max(0)) > SURE
    return Gap(float(off[:4, sure].max(initial=0)), float(off[scores, sure].max(initial=0)))
