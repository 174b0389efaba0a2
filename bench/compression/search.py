"""`yolodeploy search`: better than what one would write by hand? Both sections go on where they were stopped, given --work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.common import ROOT, Bench
from bench.process import BIN

DEMO = {
    "ios": ("ios", "ios-small", "ios-int8", "ios-pruned", "ios-qat"),
    "intel": ("intel", "intel-int8", "intel-pruned", "intel-qat"),
}
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
        max_mb: {{choice: [1.9, 1.8]}}
        group_size: {{choice: [null, 4, 8, 16, 32]}}
        layers: {{choice: [{{}}, {{head.last: 6}}]}}
  objectives: {{size_mb: 1.9, map_drop, fidelity}}
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


def search_demo(bench: Bench) -> None:
    """The demo model: a front of 40 trials beside the shipped recipes of the same model and backend, all on all images."""
    for name, shipped in DEMO.items():
        base = ROOT / "recipes" / f"{name}-qat.yaml"
        space = ROOT / "examples" / "spaces" / f"{name}.yaml"
        found = searched(bench, base, "--space", str(space), folder=name)
        front = [Path(row["recipe"]) for row in found["front"]]
        ours = {path.stem: _deployed(bench, path) for path in front}
        print(f"{name}: {len(found['tried'])} recipes in {found['seconds'] / 60:.0f} minutes")
        print("| shipped | MB | drop | no larger, and no worse by 0.002 | MB | drop |")
        print("|---|---|---|---|---|---|")
        for recipe in shipped:
            size, drop = _deployed(bench, ROOT / "recipes" / f"{recipe}.yaml")
            better = [
                k for k, (s, d) in ours.items() if s <= size + 0.005 and d <= max(0, drop) + 0.002
            ]
            best = min(better, key=lambda k: ours[k], default="NONE")
            figures = "{:.2f} | {:+.4f}".format(*ours[best]) if better else " | "
            print(f"| {recipe} | {size:.2f} | {drop:+.4f} | {best} | {figures} |", flush=True)


def _deployed(bench: Bench, recipe: Path) -> tuple[float, float]:
    """Size in MB and drop on all images, whatever the recipe's checks say."""
    command = [BIN / "yolodeploy", "deploy", recipe, "--allow", "/", "--json", "-q"]
    places = ["--cache", bench.work / "cache", "--dist", bench.work / "dist"]
    copy = recipe.with_suffix(".lock")
    kept = copy.read_bytes() if copy.is_file() else None
    done = subprocess.run(
        list(map(str, [*command, *places])),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if kept is None:
        copy.unlink(missing_ok=True)
    else:
        copy.write_bytes(kept)
    value = json.loads(done.stdout)
    report = value.get("report", value)
    return report["artifact"]["bytes"] / 1e6, report["evidence"]["map50_95"]["drop"]


def searched(bench: Bench, recipe: Path, *more: str, folder: str = "found") -> dict[str, Any]:
    """The result of a search, which goes on if it was begun."""
    command = [BIN / "yolodeploy", "search", recipe, "--allow", "/", "--json", *more]
    places = ["--cache", bench.work / "cache", "-o", bench.work / folder]
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
