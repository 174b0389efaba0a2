"""Every YOLO family and task: our outputs against Ultralytics', in PyTorch and in every backend's runtime.

Detection at every scale, other tasks at the smallest. Random weights, statistics of normalisations taken from images. A
model with two heads has a line for each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT, Bench

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "plugins")]

import families as known  # noqa: E402 - found by the path above

BACKENDS = ("openvino", "ncnn", "coreml", "onnxruntime")
OF_TASKS = BACKENDS  # those that export more than detection
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
    wanted = bench.options.models or (*known.SMALLEST, *known.OTHER_TASKS, *known.LARGER)
    backends = bench.options.backends
    print(f"| model | head | PyTorch | {' | '.join(backends)} |")
    print(f"|---|---|---|{'---|' * len(backends)}")
    missed = 0
    for name in wanted:
        others = known.task_of(name) != "detect"
        chosen = tuple(each for each in backends if each in OF_TASKS or not others)
        command = [sys.executable, "-m", "bench.families.every_family", name, *chosen]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1:]} |")
            missed += 1
            continue
        for row in map(json.loads, lines):
            cells = [_cell(row.get(column)) for column in ("torch", *backends)]
            print(f"| {name} | {row['head']} | {' | '.join(cells)} |", flush=True)
            missed += not _reached(row, chosen)
    print(
        f"\n{missed} lines above {OWN_PIXELS} px, {OWN_SCORE} in PyTorch or {PIXELS} px, {SCORE} elsewhere"
    )


def _cell(found: tuple[float, float] | None) -> str:
    return f"{found[0]:.1e} px, {found[1]:.1e}" if found else "-"


def _reached(row: dict[str, Any], backends: tuple[str, ...]) -> bool:
    own, others = row["torch"], [row[name] for name in backends]
    near = own[0] <= OWN_PIXELS and own[1] <= OWN_SCORE
    return near and all(box <= PIXELS and score <= SCORE for box, score in others)


def measure(name: str, backends: list[str]) -> None:
    """Print a JSON line for every head of a model: the largest differences in px, and in all other numbers."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        oracle = known.oracle(name, work)
        heads = ["one-to-many"] if oracle.rows is None else ["one-to-one", "one-to-many"]
        for head in heads:
            row: dict[str, Any] = {"head": head}
            of_head = _of_head if known.task_of(name) == "detect" else _of_task
            row |= of_head(oracle, head, backends, work / head)
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


def _of_task(
    oracle: known.Oracle, head: str, backends: list[str], work: Path
) -> dict[str, tuple[float, float]]:
    """The same for another task: of the one-to-one head rows, and prototypes beside either."""
    import torch
    from torch_support import load

    from yolodeploy.backend import PROTOTYPES, Load
    from yolodeploy_torch.graph import graph_in, select
    from yolodeploy_torch.model import read
    from yolodeploy_torch.model.top_k import best_rows

    work.mkdir()
    loaded = load(oracle.checkpoint, work / "load", Load.model_validate({"head": head}))
    network = read(loaded.path)
    graph, expected = graph_in(network), oracle.rows if head == "one-to-one" else oracle.many
    with torch.no_grad():
        (anchors,) = select(network, [graph.output])(oracle.images)
        ours = anchors
        if head == "one-to-one":
            corners, scores, extras = select(network, graph.branch.rows)(oracle.images)
            ours = best_rows(corners, scores, 300, extras)
        found = known.task_differences(ours, expected, graph.task, rows=head == "one-to-one")
        if oracle.prototypes is not None:
            (prototypes,) = select(network, [graph.outputs[PROTOTYPES]])(oracle.images)
            found = found[0], max(found[1], (prototypes - oracle.prototypes).abs().max().item())
    rows = {"torch": found}
    for backend in backends:
        made = exported(backend, loaded, oracle.images[:1].numpy(), work / backend)
        rows[backend] = _task_differences(made, oracle, anchors[:1], graph.task)
    return rows


def _task_differences(
    made: Any, oracle: known.Oracle, anchors: Any, task: str
) -> tuple[float, float]:
    """Of what an artifact gives for the first image; of rows those are compared that are the same finding."""
    import torch

    from yolodeploy.backend import OUTPUT, PROTOTYPES
    from yolodeploy.tasks.detection.rows import pair_rows

    outputs = made if isinstance(made, dict) else {OUTPUT: made}
    ours = outputs[OUTPUT]
    if oracle.rows is None or ours.shape[1:] == anchors.shape[1:]:
        found = known.task_differences(torch.from_numpy(ours), anchors, task)
    else:
        theirs, rows = oracle.rows[0].numpy(), ours[0]
        paired = pair_rows(theirs, rows)
        tensors = (torch.from_numpy(each) for each in (theirs[paired.first], rows[paired.second]))
        one, two = (each[None] for each in tensors)
        found = known.task_differences(one, two, task, rows=True)
    if oracle.prototypes is None:
        return found
    delta = abs(outputs[PROTOTYPES] - oracle.prototypes[:1].numpy())
    return found[0], max(found[1], float(delta.max()))


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
        model=info,
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
