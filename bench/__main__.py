"""Side-by-side measurements against what a user would run instead.

    make bench                          # everything
    make bench ARGS="startup export"    # some sections

Uses a COCO YOLOv8n and a COCO sample where they are given (--weights, --data, --imgsz, or the folder
`shared` beside the project), else the bundled demo model. Every peer is really run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from bench.common import ROOT, SHARED, Bench
from bench.compression.android import ncnn
from bench.compression.coreml_w8a8 import coreml_w8a8
from bench.compression.coreml_weights import coreml
from bench.compression.demos import demo_tasks, demos
from bench.compression.intel import openvino
from bench.compression.onnxruntime_quantization import onnxruntime_quantization
from bench.compression.qat import qat
from bench.compression.search import search, search_demo
from bench.compression.sensitivity import sensitivity
from bench.compression.training import training
from bench.families.accuracy import accuracy
from bench.families.agreement import agreement
from bench.families.every_family import BACKENDS, families
from bench.families.onnx_sources import onnx_sources
from bench.hosts.cluster import cached, cluster, elsewhere, killed
from bench.hosts.cuts import cuts
from bench.hosts.over_ssh import over_ssh
from bench.hosts.vulkan import vulkan
from bench.speed.commands import export, memory, startup
from bench.speed.init import init
from bench.speed.latency import clocks, itself, speeds, verdicts
from bench.speed.measuring import measuring
from bench.speed.page import page
from bench.speed.pictures import pictures
from bench.trust.fire import fire
from bench.trust.fuzz import fuzz
from bench.trust.hostile_files import hostile
from bench.trust.verification import verify

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
    chosen = _options()
    with tempfile.TemporaryDirectory(prefix="yolodeploy-bench-") as temporary:
        folder = (chosen.work or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = temporary
        for name in chosen.sections:
            print(f"\n## {name}", flush=True)
            SECTIONS[name](Bench(chosen, folder))


def _options() -> argparse.Namespace:
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
    options.add_argument("sections", nargs="*", default=list(SECTIONS), help=", ".join(SECTIONS))
    options.add_argument("--weights", type=Path, default=weights)
    options.add_argument("--data", type=Path, default=data)
    options.add_argument("--imgsz", type=int, default=640 if coco else 160)
    options.add_argument(
        "--runs", type=int, default=3, help="of what a section times; the more the surer"
    )
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
    return options.parse_args()


if __name__ == "__main__":
    main()
