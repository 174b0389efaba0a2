"""ONNX files of every kind as a source: what the file itself gives in ONNX Runtime against every backend's runtime.

The families as Ultralytics exports them, at several operator sets, simplified by onnxsim or not, with fixed and with free sizes; and
the small models of `tests/plugins/onnx_models.py`, built as other projects build theirs. Of the other tasks, the files of
`onnx_tasks.py` in PyTorch alone. All have random weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import Bench
from bench.families.every_family import exported
from bench.families.onnx_files import FAMILIES, ZOO, Array, Source, exports, of_zoo
from bench.families.onnx_tasks import TASKS, of_task

PIXELS, SCORE = 0.02, 1e-4  # how far a backend may be off
_ROW = 6


def onnx_sources(bench: Bench) -> None:
    """The tables: what is read and how near it is, then what is refused and why."""
    backends = list(bench.options.backends)
    wanted = bench.options.models or [*FAMILIES, *ZOO, *TASKS]
    print(f"| file | read as | PyTorch | {' | '.join(backends)} |")
    print(f"|---|---|---|{'---|' * len(backends)}")
    refused, count, missed = [], 0, 0
    for name in wanted:
        command = [sys.executable, "-m", "bench.families.onnx_sources", name, *backends]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1:]} |")
            missed += 1
        for row in _merged(lines):
            refused += [(row["file"], *each) for each in row["refused"].items()]
            count += 1
            near = {key: row["far"].get(key) for key in ("torch", *backends)}
            cells = [_cell(each) for each in near.values()]
            print(f"| {row['file']} | {row['as']} | {' | '.join(cells)} |", flush=True)
            missed += any(each and (each[0] > PIXELS or each[1] > SCORE) for each in near.values())
    print(f"\n{count} lines, {missed} above {PIXELS} px, {SCORE}\n")
    print("| file | refused by | why |\n|---|---|---|")
    for file, by, why in refused:
        print(f"| {file} | {by} | {why} |")


def _cell(far: list[float] | None) -> str:
    return f"{far[0]:.1e} px, {far[1]:.1e}" if far else ""


def _merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one family that were read alike in one: the largest differences."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        said = json.dumps(row["refused"], sort_keys=True)
        into = found.setdefault((row["kind"], row["as"], said), row | {"titles": [], "far": {}})
        into["titles"].append(row["file"])
        for key, (box, score) in row["far"].items():
            old = into["far"].get(key, (0.0, 0.0))
            into["far"][key] = [max(old[0], box), max(old[1], score)]
    for row in found.values():
        many = len(row["titles"]) > 1
        row["file"] = f"{row['kind']} ({len(row['titles'])} files)" if many else row["titles"][0]
    return list(found.values())


def measure(name: str, backends: list[str]) -> None:
    """Print a JSON line for every file of a family or of the zoo."""
    import torch

    torch.set_num_threads(1)
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if name in TASKS:
            for row in of_task(name, work):
                print(json.dumps(row), flush=True)
            return
        made = [of_zoo(name, ZOO[name](work))] if name in ZOO else exports(name, work)
        for number, source in enumerate(made):
            row = _measured(source, backends if source.exported else [], work / f"{number}")
            print(json.dumps({"kind": name, "file": source.title} | row), flush=True)


def _measured(source: Source, backends: list[str], work: Path) -> dict[str, Any]:
    from yolodeploy.errors import YolodeployError

    work.mkdir()
    far: dict[str, tuple[float, float]] = {}
    refused: dict[str, str] = {}
    try:
        loaded, said = _load(source, work / "load")
    except YolodeployError as error:
        return {"as": "refused", "far": far, "refused": {"reading": str(error)}}
    makers: dict[str, Callable[[], Array]] = {"torch": lambda: _in_torch(loaded, source)}
    for backend in backends:
        makers[backend] = lambda b=backend: exported(b, loaded, source.images[:1], work / b)
    for key, make in makers.items():
        try:
            if why := _obstacle(key, loaded):
                refused[key] = why
                continue
            far[key] = differences(make(), source.expected)
        except YolodeployError as error:
            refused[key] = str(error)
        except NotImplementedError:  # only the outputs are known, so PyTorch cannot run it
            pass
    return {"as": said, "far": far, "refused": refused}


def _obstacle(backend: str, loaded: Any) -> str:
    """Why the planner does not let a backend export a model; empty if it does."""
    from yolodeploy.backend import ModelInfo, load_registry

    info = ModelInfo.read(loaded.path)
    if getattr(info, "known", "head") != "outputs" or backend == "torch":
        return ""
    export = next(s for s in load_registry().backends[backend].STEPS if s.name == "export")
    return "" if getattr(export, "takes_onnx", False) else f"{info.obstacle} is no primitive"


def _load(source: Source, work: Path) -> tuple[Any, str]:
    """Read a file; returns the artifact, and what it was read as."""
    from dataclasses import replace

    from torch_support import context

    import yolodeploy_onnx
    from yolodeploy.backend import Artifact, ModelInfo
    from yolodeploy.system import ImageShape

    given = replace(context(work), imgsz=ImageShape(*source.images.shape[2:]))
    step = yolodeploy_onnx.STEPS[0]
    file = Artifact(".onnx", source.path, "")
    path = step.run(file, step.params.model_validate(source.told), given)
    info = ModelInfo.read(path)
    return Artifact("yolo", path, ""), str(getattr(info, "known", "head"))


def _in_torch(loaded: Any, source: Source) -> Array:
    import torch

    from yolodeploy_torch.graph import graph_in, select
    from yolodeploy_torch.model import read

    if (loaded.path / "model.onnx").exists():
        raise NotImplementedError
    network = read(loaded.path)
    (output,) = select(network, [graph_in(network).output])(torch.from_numpy(source.images))
    return np.asarray(output.detach().numpy())


def differences(ours: Array, expected: Array) -> tuple[float, float]:
    """The largest difference of a box in px and of a score.

    Where one of them is rows, the other becomes rows; queries may be in another order.
    """
    from yolodeploy.tasks.detection.rows import row_differences

    expected = expected[: len(ours)]
    if ours.shape == expected.shape and ours.shape[2] != _ROW:
        delta = np.abs(ours - expected)
        found = float(delta[:, :4].max()), float(delta[:, 4:].max())
        if found[0] <= PIXELS and found[1] <= SCORE:
            return found
    count = min(each.shape[1 if each.shape[2] == _ROW else 2] for each in (ours, expected))
    pairs = zip(_as_rows(expected, count), _as_rows(ours, count), strict=True)
    rows = [row_differences(one, two) for one, two in pairs]
    return (
        max(float(box.max(initial=0)) for box, _ in rows),
        max(float(score.max(initial=0)) for _, score in rows),
    )


def _as_rows(found: Array, count: int) -> list[Array]:
    from yolodeploy.tasks.detection.rows import best_rows

    return [each[:count] if found.shape[2] == _ROW else best_rows(each, count) for each in found]


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2:])
