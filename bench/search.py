"""`yolodeploy search`: better than what one would write by hand? Both sections go on where they were stopped, given --work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import ROOT, Bench
from process import BIN

TRIALS = 40
MINUTES = 60
COCO = """\
name: coco-ios
model: {{weights: {weights}, imgsz: {imgsz}}}
data: {{path: {data}, calibration: {{split: train, images: 32}}}}
target: {{device: iphone-13, os: "18"}}
steps:
  - export
  - palettize: {{optimize: accuracy, max_mb: 1.9}}
search:
  steps:
    - export
    - palettize:
        optimize: accuracy
        max_mb: {{from: 1.7, to: 1.9, step: 0.1}}
        group_size: {{choice: [null, 8, 16, 32]}}
        layers: {{choice: [{{}}, {{head.last: 8}}, {{head.last: 6}}]}}
  objectives: {{size_mb: 1.9, map_drop, fidelity}}
  budget: {{trials: 200}}
"""


def search(bench: Bench) -> None:
    """COCO, Core ML, an hour: the front beside `optimize` alone at 1.9 MB, on images that the search did not see."""
    recipe = bench.work / "coco-ios.yaml"
    options = bench.options
    recipe.write_text(COCO.format(weights=options.weights, imgsz=options.imgsz, data=options.data))
    found = searched(bench, recipe, "--minutes", str(MINUTES))
    print(f"{len(found['tried'])} recipes in {found['seconds'] / 60:.0f} minutes")
    print("| recipe | MB | searched: drop | fidelity | judged: drop (90 %) | fidelity |")
    print("|---|---|---|---|---|---|")
    for row in [found["own"], *found["front"]]:
        name = Path(row["recipe"]).stem if row["recipe"] else "optimize alone"
        seen, held = row["searched"], row["held_out"]
        drop = held["map_drop"]
        low, high = drop["interval"]
        print(
            f"| {name} | {held['size_mb']['value']:.2f} | {seen['map_drop']['value']:+.4f} | {seen['fidelity']['value']:.3f} "
            f"| {drop['value']:+.4f} ({low:+.4f} to {high:+.4f}) | {held['fidelity']['value']:.3f} |"
        )


def searched(bench: Bench, recipe: Path, *more: str) -> dict[str, Any]:
    """The result of a search, which goes on if it was begun."""
    command = [BIN / "yolodeploy", "search", recipe, "--allow", "/", "--json", *more]
    places = ["--cache", bench.work / "cache", "-o", bench.work / "found"]
    done = subprocess.run(
        list(map(str, [*command, *places])),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"search {recipe.name} failed")
    return dict(json.loads(done.stdout))
