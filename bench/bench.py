"""Side-by-side measurements against what a user would run instead.

    make bench                          # everything
    make bench ARGS="startup export"    # some sections

Uses a COCO YOLOv8n and a COCO sample where they are given (--weights, --data, --imgsz, or the folder
`shared` beside the project), else the bundled demo model. Every peer is really run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agreement import agreement
from android import ncnn
from cluster import cached, cluster, elsewhere, killed
from common import PEERS, ROOT, SHARED, Bench
from coreml_w8a8 import coreml_w8a8
from coreml_weights import coreml
from demos import demo_tasks, demos
from every_family import BACKENDS, families
from fire import fire
from fuzz import fuzz
from hostile_files import hostile
from init import init
from intel import openvino
from latency import clocks, itself, speeds, verdicts
from measuring import measuring
from onnx_sources import onnx_sources
from onnxruntime_quantization import onnxruntime_quantization
from over_ssh import cuts, over_ssh
from page import page
from pictures import pictures
from process import BIN, Run, in_turns, median, ratio, run
from qat import qat
from search import search, search_demo
from sensitivity import sensitivity
from training import training
from verification import verify
from vulkan import vulkan


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


def accuracy(bench: Bench) -> None:
    """Measure mAP of every float artifact against the source model, and the source against Ultralytics' `val`."""
    print(
        "| target | precision | size MB | mAP50-95 | source | drop | max output difference | latency / fp32 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in PEERS:
        for precision in ("fp32", "fp16"):
            report = bench.deploy(bench.recipe(name, precision))
            evidence, size = report["evidence"], report["artifact"]["bytes"] / 1e6
            row = evidence["map50_95"]
            print(
                f"| {name} | {precision} | {size:.2f} | {row['artifact']:.4f} | {row['source']:.4f} | {row['drop']:+.4f} "
                f"| {evidence['output_diff']['max']:.4g} | {evidence['latency_ratio']:.2f} |",
                flush=True,
            )
    print(f"Ultralytics val (square letterbox): {_ultralytics_val(bench):.4f}")


def _ultralytics_val(bench: Bench) -> float:
    from ultralytics import YOLO

    # Ultralytics leaves a cache beside the labels, so it gets labels of its own.
    given = Path(bench.options.data).resolve()
    folder = bench.work / "data"
    shutil.copytree(
        given.parent / "labels", folder / "labels", ignore=shutil.ignore_patterns("*.cache")
    )
    (folder / "images").symlink_to(given.parent / "images")
    absolute = folder / "data.yaml"
    lines = [line for line in given.read_text().splitlines() if not line.startswith("path:")]
    absolute.write_text("\n".join([f"path: {folder}", *lines]) + "\n")
    arguments = {"data": str(absolute), "imgsz": bench.options.imgsz, "rect": False, "workers": 0}
    result = YOLO(bench.options.weights).val(
        **arguments, plots=False, verbose=False, project=str(bench.work)
    )
    return float(result.box.map)


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


SECTIONS = {
    "startup": startup,
    "export": export,
    "accuracy": accuracy,
    "agreement": agreement,
    "memory": memory,
    "measuring": measuring,
    "pictures": pictures,
    "init": init,
    "sensitivity": sensitivity,
    "openvino": openvino,
    "ncnn": ncnn,
    "onnxruntime": onnxruntime_quantization,
    "coreml": coreml,
    "coreml_w8a8": coreml_w8a8,
    "search": search,
    "search_demo": search_demo,
    "training": training,
    "qat": qat,
    "fire": fire,
    "hostile": hostile,
    "fuzz": fuzz,
    "verify": verify,
    "vulkan": vulkan,
    "clocks": clocks,
    "verdicts": verdicts,
    "speeds": speeds,
    "itself": itself,
    "families": families,
    "onnx": onnx_sources,
    "cluster": cluster,
    "elsewhere": elsewhere,
    "killed": killed,
    "cached": cached,
    "ssh": over_ssh,
    "cuts": cuts,
    "page": page,
    "demos": demos,
    "tasks": demo_tasks,
}


def main() -> None:
    """Run the sections that are asked for."""
    coco = (SHARED / "models" / "yolov8n-coco.pt").is_file()
    weights = (
        SHARED / "models" / "yolov8n-coco.pt" if coco else ROOT / "models" / "shapes-yolov8n.pt"
    )
    data = (
        SHARED / "coco" / "data.yaml"
        if coco
        else ROOT / "examples" / "shapes" / "data" / "data.yaml"
    )
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("sections", nargs="*", default=list(SECTIONS))
    options.add_argument("--weights", type=Path, default=weights)
    options.add_argument("--data", type=Path, default=data)
    options.add_argument("--imgsz", type=int, default=640 if coco else 160)
    options.add_argument("--runs", type=int, default=3, help="runs of each command in `export`")
    options.add_argument("--inputs", type=int, default=10_000, help="of each parser in `fuzz`")
    options.add_argument(
        "--models",
        nargs="+",
        help="of `families` and `onnx`, such as yolo26n, and of `init`; all if left out",
    )
    options.add_argument("--backends", nargs="*", default=BACKENDS, help="of `families` and `onnx`")
    options.add_argument("--kills", type=int, default=200, help="of deploys in `fire`")
    options.add_argument("--cuts", type=int, default=50, help="of connections in `cuts`")
    options.add_argument(
        "--work",
        type=Path,
        help="a folder to keep results in, so that a training that was made is not made again",
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="yolodeploy-bench-") as temporary:
        folder = (chosen.work or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = temporary
        for name in chosen.sections:
            print(f"\n## {name}", flush=True)
            SECTIONS[name](Bench(chosen, folder))


if __name__ == "__main__":
    main()
