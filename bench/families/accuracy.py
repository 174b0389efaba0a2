"""mAP of every float artifact, against the source model and Ultralytics' own `val`."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.common import PEERS, Bench


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
