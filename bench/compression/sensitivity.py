"""How long it takes to measure every convolution alone, and to show it again."""

from __future__ import annotations

import json

from bench.common import Bench
from bench.process import BIN, run

GOAL_SECONDS = 180
RECIPES = {
    "OpenVINO quantize": ("xeon-icelake", "[{export: {precision: fp32}}, quantize]"),
    "NCNN quantize": ("pixel-8", "[{export: {precision: fp32}}, quantize]"),
    "Core ML palettize": ("iphone-13", "[{export: {precision: fp16}}, palettize]"),
}


def sensitivity(bench: Bench) -> None:
    """`yolodeploy sensitivity` in a store that holds the built recipe, and once more."""
    for number, (title, (target, steps)) in enumerate(RECIPES.items()):
        recipe = bench.compressed(f"sensitivity-{number}", target, steps, 32)
        cache = bench.work / f"sensitivity-{number}"
        run(
            [BIN / "yolodeploy", "build", "--allow", "/", recipe, "-q", "--cache", cache],
            bench.work,
        )
        command = [
            BIN / "yolodeploy",
            "sensitivity",
            "--allow",
            "/",
            recipe,
            "--cache",
            cache,
            "-o",
            bench.work,
        ]
        first, second = (run([*command, "-q"], bench.work) for _ in range(2))
        table = json.loads((bench.work / f"{recipe.stem}.json").read_text(encoding="utf-8"))
        print(
            f"{title:<18} {len(table['steps'][0]['rows']):>3} trials: {first.wall:5.1f} s, "
            f"{first.cpu:5.1f} CPU s (goal {GOAL_SECONDS}); again {second.wall:.2f} s",
            flush=True,
        )
