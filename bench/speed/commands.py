"""The commands that people wait for most often, as whole processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.common import PEERS, ROOT, Bench
from bench.process import BIN, Run, in_turns, median, ratio, run


def startup(bench: Bench) -> None:
    """Whole processes of the commands that a user waits for most often."""
    recipe = bench.recipe("intel", "fp16", 128 if bench.options.imgsz == 640 else None)
    bench.deploy(recipe)
    cache = ["--cache", bench.work / "cache"]
    commands = {
        "yolodeploy --help": ([BIN / "yolodeploy", "--help"], 0.35),
        "yolodeploy plan": ([BIN / "yolodeploy", "plan", "--allow", "/", recipe, *cache], 0.35),
        "yolodeploy deploy, unchanged": (
            [BIN / "yolodeploy", "deploy", "--allow", "/", recipe, *cache],
            0.5,
        ),
    }
    for name, (command, limit) in commands.items():
        runs = [run(command, bench.work) for _ in range(11)][1:]
        print(f"{name:<32} median {median(runs, 'wall'):.3f} s of 10 runs (limit {limit})")
    print(f"{'make deploy, unchanged':<32} median {_make(bench):.3f} s of 10 runs (limit 0.5)")
    _imports(bench, recipe)


def _make(bench: Bench) -> float:
    """`make deploy` itself, on the COCO recipe, through the project's own Makefile."""
    recipe = ROOT / "recipes" / "bench-startup.yaml"
    env = {"YOLODEPLOY_CACHE": str(bench.work / "cache")}
    command = [
        "make",
        "-C",
        ROOT,
        "deploy",
        "TARGET=bench-startup",
        f"ARGS=--allow / --dist {bench.work}/dist",
    ]
    text = bench.recipe("intel", "fp16", 128 if bench.options.imgsz == 640 else None).read_text()
    recipe.write_text(text)
    try:
        return median([run(command, bench.work, env) for _ in range(11)][1:], "wall")
    finally:
        recipe.unlink()
        recipe.with_suffix(".lock").unlink(missing_ok=True)


def _imports(bench: Bench, recipe: Path) -> None:
    script = (
        "import sys; from yolodeploy.cli.main import main; main(sys.argv[1:]);"
        "print([name for name in ('torch', 'numpy', 'cv2') if name in sys.modules], file=sys.stderr)"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "deploy",
        "--allow",
        "/",
        str(recipe),
        "-q",
        "--cache",
        str(bench.work / "cache"),
    ]
    done = subprocess.run(command, cwd=bench.work, capture_output=True, text=True, check=True)
    print(
        f"{'imported by unchanged deploy':<32} {done.stderr.strip().splitlines()[-1]} of torch, numpy, cv2"
    )


def export(bench: Bench) -> None:
    """The float export from a .pt on disk to the artifact on disk, against `yolo export`."""
    for name, peer in PEERS.items():
        for precision in ("fp32", "fp16"):
            recipe = bench.recipe(name, precision)
            ours, theirs = in_turns(
                bench.options.runs,
                lambda r=recipe: _ours(bench, r),
                lambda p=peer, q=precision: _theirs(bench, p, q),
            )
            print(
                f"export {peer:<9} {precision}  ours {median(ours, 'wall'):5.1f} s {median(ours, 'peak_mb'):5.0f} MB   "
                f"yolo export {median(theirs, 'wall'):5.1f} s {median(theirs, 'peak_mb'):5.0f} MB   "
                f"ratio: time {ratio(ours, theirs, 'wall'):.2f}, CPU {ratio(ours, theirs, 'cpu'):.2f}, "
                f"memory {ratio(ours, theirs, 'peak_mb'):.2f} ({len(ours)} runs each)",
                flush=True,
            )


def _ours(bench: Bench, recipe: Path) -> Run:
    with tempfile.TemporaryDirectory(dir=bench.work) as cache:
        return run(
            [BIN / "yolodeploy", "build", "--allow", "/", recipe, "-q", "--cache", cache],
            bench.work,
        )


def _theirs(bench: Bench, peer: str, precision: str) -> Run:
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        weights = shutil.copy(bench.options.weights, folder)
        command = [
            BIN / "yolo",
            "export",
            f"model={weights}",
            f"format={peer}",
            f"imgsz={bench.options.imgsz}",
        ]
        env = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
        return run([*command, f"half={precision == 'fp16'}"], Path(folder), env)


def memory(bench: Bench) -> None:
    """Peak memory of a whole deploy with few and with many evaluation images."""
    bench.deploy(bench.recipe("intel", "fp16", 8))
    peaks = {}
    for images in (32, 128):
        recipe = bench.recipe("intel", "fp16", images)
        peaks[images] = run(
            [
                BIN / "yolodeploy",
                "deploy",
                "--allow",
                "/",
                recipe,
                "-q",
                "--cache",
                bench.work / "cache",
            ],
            bench.work,
        ).peak_mb
        print(f"deploy measuring {images:>3} images: peak {peaks[images]:.0f} MB")
    print(f"ratio {peaks[128] / peaks[32]:.3f}")
