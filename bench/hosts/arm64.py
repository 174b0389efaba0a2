"""What the Arm builds of the runtimes find, under emulation, against what this machine finds.

    python -m bench.hosts.arm64 --root FOLDER [--images N] [RECIPE...]

`FOLDER` is what bench/arm64_root.sh made. Of every recipe (by default all that target Android and are in the store) the artifact
runs on N images here, on a Cortex-A72 (no fp16 arithmetic) and on a Cortex-A76 (fp16). Agreement is the primary measure of
what was found there with a score over .25, with what was found here as labels: 1 means that all of it is the same. Exits with
1 if other objects are found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yolodeploy.backend import Predictor, layout_of, named_outputs
from yolodeploy.data import letterboxed_file, to_tensor
from yolodeploy.execution import Runner, as_artifact
from yolodeploy.hosts import LOCAL, Host, qemu
from yolodeploy.planning import plan_recipe
from yolodeploy.store import Store
from yolodeploy.system import Console
from yolodeploy.tasks import task_of

ROOT = Path(__file__).resolve().parents[2]
LEAST = 0.98  # of the agreement
CPUS = ("cortex-a72", "cortex-a76")
HEAD = "| recipe | on | found here / there | agreement | largest differences of raw outputs | s / image |"


def main() -> None:
    """Print a row for every recipe and processor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--store", type=Path, default=Path("~/.cache/yolodeploy").expanduser())
    options = parser.parse_args()
    print(HEAD, "|---|---|---|---|---|---|", sep="\n")
    others = 0
    for recipe in options.recipes or sorted((ROOT / "recipes").glob("android*.yaml")):
        for line, agrees in rows(recipe, options):
            print(line, flush=True)
            others += not agrees
    sys.exit(f"{others} rows find other objects, or agree less than {LEAST}" if others else 0)


def rows(recipe: Path, options: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    """The rows of one recipe, and whether the same objects are found."""
    runner = Runner(plan_recipe(recipe, options.store), Store(options.store, print), Console(-1))
    if not options.recipes and runner.plan.final.id not in runner.cached:
        yield f"| {recipe.stem} | not in the store: deploy it, or name it | | | | |", True
        return
    plan = runner.plan
    view, target = plan.views["evaluation"].spread(options.images), plan.target
    artifact, task = as_artifact(runner.final()), task_of(runner.info())
    boxes = [letterboxed_file(image, plan.imgsz) for image in view.images]
    images = list(zip(view.images, boxes, strict=True))
    truths = [task.truth(view, image, box.width, box.height) for image, box in images]

    def run(host: Host) -> tuple[list[Any], list[Any], str, float]:
        predictor = host.open(plan.backend, artifact, target, 1)
        start = time.perf_counter()
        raw = [_raw(predictor, box.pixels, task.outputs) for box in boxes]
        seconds = (time.perf_counter() - start) / len(boxes)
        layout = layout_of(predictor)
        found = [
            task.found(each, task.app, box, layout) for each, box in zip(raw, boxes, strict=True)
        ]
        host.close()
        return raw, found, layout, seconds

    here, ours, layout, _ = run(LOCAL)
    labels = [task.as_truth(found, truth) for found, truth in zip(ours, truths, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        for cpu in CPUS:
            given = {"kind": "qemu", "root": options.root, "cpu": cpu, "folder": folder}
            there, theirs, _, seconds = run(qemu.make(cpu, qemu.Settings.model_validate(given)))
            found_by = [sum(map(task.count, found)) for found in (ours, theirs)]
            counts = " / ".join(map(str, found_by))
            score = task.score(labels, theirs)
            differences = _largest(task, here, there, layout)
            row = f"| {recipe.stem} | {cpu} | {counts} | {score:.4f} | {differences} | {seconds:.1f} |"
            yield row, found_by[0] == found_by[1] and score >= LEAST


def _raw(predictor: Predictor, pixels: Any, names: Sequence[str]) -> Any:
    outputs = named_outputs(predictor(to_tensor(pixels)), names)
    return {name: values[0] for name, values in outputs.items()}


def _largest(task: Any, here: Sequence[Any], there: Sequence[Any], layout: str) -> str:
    most: dict[str, float] = {}
    for one, other in zip(here, there, strict=True):
        for kind, values in task.differences(one, other, layout).items():
            most[kind] = max(most.get(kind, 0.0), float(values.max(initial=0)))
    return ", ".join(f"{kind} {value:.3g}" for kind, value in most.items())


if __name__ == "__main__":
    main()
