"""What every section of the benchmarks uses: inputs, recipes, deploys."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.process import BIN, Run, run
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("YOLODEPLOY_SHARED", ROOT.parent / "shared"))
DEVICES = {"intel": "xeon-icelake", "android": "pixel-8", "ios": "iphone-13"}
PEERS = {"intel": "openvino", "android": "ncnn", "ios": "coreml"}


def detectors() -> list[Path]:
    """The demo models that detect; those of other tasks have the task behind the family's name."""
    return sorted(path for path in (ROOT / "models").glob("*.pt") if path.stem.count("-") == 1)


class Bench:
    """The inputs of a run, and a folder of its own for everything that is written."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.work = work

    def recipe(self, name: str, precision: str, images: int | None = None) -> Path:
        """Write a recipe of a float export for one target and return its path."""
        steps = f"[{{export: {{precision: {precision}}}}}]"
        view = f"{{images: {images}}}" if images else "{}"
        title = f"{name}-{precision}-{images or 'all'}"
        return self.write(title, DEVICES[name], steps, f"evaluation: {view}")

    def compressed(self, title: str, target: str, steps: str, calibration: int = 128) -> Path:
        """Write a recipe with calibration images; `target` and `steps` are YAML in one line."""
        count = min(calibration, len(self.calibration()))
        return self.write(title, target, steps, f"calibration: {{split: train, images: {count}}}")

    def write(self, title: str, target: str, steps: str, views: str) -> Path:
        """Write a recipe and return its path."""
        path = self.work / f"{title}.yaml"
        path.write_text(
            f"name: {title}\n"
            f"model: {{weights: {self.options.weights}, imgsz: {self.options.imgsz}}}\n"
            f"data: {{path: {self.options.data}, {views}}}\n"
            f"target: {target}\nsteps: {steps}\n"
        )
        return path

    @property
    def imgsz(self) -> ImageShape:
        """The size of the input."""
        return ImageShape.square(self.options.imgsz)

    def calibration(self) -> Dataset:
        """All images of the training split."""
        return load_view(self.options.data, View(split="train"), 0)

    def evaluation(self) -> Dataset:
        """All images of the validation split."""
        return load_view(self.options.data, View(), 0)

    def build(self, recipe: Path) -> Run:
        """Build a recipe in the store of the run, as a whole process."""
        return run(self._command("build", recipe), self.work)

    def built(self, recipe: Path) -> Path:
        """The folder of a recipe's artifact in the store of the run."""
        command = self._command("build", recipe, "--json")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return Path(json.loads(done.stdout)["path"])

    def deploy(self, recipe: Path, *more: str | Path) -> dict[str, Any]:
        """Deploy a recipe and return its report."""
        command = self._command("deploy", recipe, "--json", *more)
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"deploy {recipe.name} failed:\n{done.stderr[-2000:]}")
        return dict(json.loads(done.stdout))

    def _command(self, name: str, recipe: Path, *more: str | Path) -> list[str | Path]:
        cache = self.work / "cache"
        return [BIN / "yolodeploy", name, "--allow", "/", recipe, "-q", "--cache", cache, *more]
