"""Every YOLO family at every scale: our outputs against Ultralytics', in PyTorch and in every backend's runtime.

Random weights, statistics of normalisations taken from images. A model with two heads has a line for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Bench

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "plugins")]

import families as known  # noqa: E402 - found by the path above

BACKENDS = ("openvino", "ncnn", "coreml", "onnxruntime")
DEVICES = {
    "openvino": "xeon-icelake",
    "ncnn": "pixel-8",
    "coreml": "iphone-13",
    "onnxruntime": "linux-x64",
}
PIXELS, SCORE = 0.02, 1e-4  # how far a backend may be off
OWN_PIXELS, OWN_SCORE = 1e-3, 1e-5  # and PyTorch, before anything is folded


def families(bench: Bench) -> None:
    """The table of families x scales x backends; every model in a process of its own."""
    wanted = bench.options.models or (*known.SMALLEST, *known.LARGER)
    backends = bench.options.backends
    print(f"| model | head | PyTorch | {' | '.join(backends)} |")
    print(f"|---|---|---|{'---|' * len(backends)}")
    missed = 0
    for name in wanted:
        command = [sys.executable, __file__, name, *backends]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1:]} |")
            missed += 1
            continue
        for row in map(json.loads, lines):
            cells = [
                f"{row[column][0]:.1e} px, {row[column][1]:.1e}" for column in ("torch", *backends)
            ]
            print(f"| {name} | {row['head']} | {' | '.join(cells)} |", flush=True)
            missed += not _reached(row, backends)
    print(
        f"\n{missed} lines above {OWN_PIXELS} px, {OWN_SCORE} in PyTorch or {PIXELS} px, {SCORE} elsewhere"
    )


def _reached(row: dict[str, Any], backends: tuple[str, ...]) -> bool:
    own, others = row["torch"], [row[name] for name in backends]
    near = own[0] <= OWN_PIXELS and own[1] <= OWN_SCORE
    return near and all(box <= PIXELS and score <= SCORE for box, score in others)


def measure(name: str, backends: list[str]) -> None:
    """Print a JSON line for every head of a model: the largest differences in px and in score."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        oracle = known.oracle(name, work)
        heads = ["one-to-many"] if oracle.rows is None else ["one-to-one", "one-to-many"]
        for head in heads:
            row: dict[str, Any] = {"head": head}
            row |= _of_head(oracle, head, backends, work / head)
            print(json.dumps(row), flush=True)


def _of_head(
    oracle: known.Oracle, head: str, backends: list[str], work: Path
) -> dict[str, tuple[float, float]]:
    from torch_support import load

    from yolodeploy.backend import Load
    from yolodeploy_torch.graph import graph_in, select
    from yolodeploy_torch.model import read

    work.mkdir()
    loaded = load(oracle.checkpoint, work / "load", Load.model_validate({"head": head}))
    network = read(loaded.path)
    (output,) = select(network, [graph_in(network).output])(oracle.images)
    ours = output.detach().numpy()
    many = oracle.many.numpy() if head == "one-to-many" else None
    rows = oracle.rows.numpy() if head == "one-to-one" and oracle.rows is not None else None
    found = {"torch": _differences(ours, many, rows)}
    for backend in backends:
        made = exported(backend, loaded, oracle.images[:1].numpy(), work / backend)
        expected = (many[:1] if many is not None else None, rows[:1] if rows is not None else None)
        found[backend] = _differences(made, *expected)
    return found


def exported(backend: str, loaded: Any, image: Any, work: Path) -> Any:
    """What the fp32 export of a model gives for an image [1, channels, H, W], in the backend's runtime."""
    from dataclasses import replace

    from torch_support import context

    from yolodeploy.backend import Artifact, ModelInfo, Target, load_registry
    from yolodeploy.system import ImageShape

    plugin = load_registry().backends[backend]
    device = next(each for each in plugin.DEVICES if each.name == DEVICES[backend])
    target = Target(device, device.os_default)
    step = next(each for each in plugin.STEPS if each.name == "export")
    info = ModelInfo.read(loaded.path)
    given = replace(
        context(work),
        imgsz=ImageShape(*image.shape[2:]),
        target=target,
        names=info.names,
        head=info.head,
    )
    path = step.run(loaded, step.params.model_validate({"precision": "fp32"}), given)
    return plugin.open(Artifact(step.produces, path, ""), target, 1)(image)


def _differences(ours: Any, many: Any | None, rows: Any | None) -> tuple[float, float]:
    from yolodeploy.tasks.detection.rows import best_rows, row_differences

    if many is not None:
        delta = np.abs(ours - many)
        return float(delta[:, :4].max()), float(delta[:, 4:].max())
    as_rows = ours if ours.shape[2] == 6 else np.stack([best_rows(each) for each in ours])
    found = [row_differences(one, two) for one, two in zip(rows, as_rows, strict=True)]
    return max(float(box.max()) for box, _ in found), max(float(score.max()) for _, score in found)


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2:])
