"""ONNX files of every kind as a source: what the file itself gives in ONNX Runtime against every backend's runtime.

The families as Ultralytics exports them, at several operator sets, simplified by onnxsim or not, with fixed and with free sizes; and
the small models of `tests/plugins/onnx_models.py`, built as other projects build theirs. Of the other tasks, the files of
`onnx_tasks.py` in PyTorch alone. All have random weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT, Bench
from bench.families.every_family import exported, known
from bench.families.onnx_tasks import TASKS, of_task

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "plugins")]

import onnx_models as zoo  # noqa: E402 - found by the path above

PIXELS, SCORE = 0.02, 1e-4  # how far a backend may be off
FAMILIES = ("yolov5n", "yolov8n", "yolov8n-p2", "yolov8n-ghost", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")  # fmt: skip
OPSETS = (12, 13, 15, 17, 18, 19, 20)
EXPORTED = {(12, "simplified"), (20, "dynamic")}  # what backends export; PyTorch runs all
_ROW = 6
END_TO_END = ("yolov10n", "yolo26n")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Source:
    """A file, what it means, and what the reader is told.

    `expected` is [N, 4 + nc, A], or rows [N, k, 6], for `images` [N, 3, H, W], RGB in 0..1. `told` has the parameters of the step `load`.
    """

    title: str
    path: Path
    images: Array
    expected: Array
    told: dict[str, Any] = field(default_factory=dict)
    exported: bool = True


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
        made = [_of_zoo(name, ZOO[name](work))] if name in ZOO else _exports(name, work)
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


def _of_zoo(name: str, model: zoo.Model) -> Source:
    images = model.images()
    told = _told(model)
    return Source(name, model.path, images, model.reference(images), told)


def _told(model: zoo.Model) -> dict[str, Any]:
    pixels, usual = model.pixels, zoo.Pixels()
    given = {key: value for key, value in vars(pixels).items() if value != getattr(usual, key)}
    return {"names": zoo.NAMES} | ({"preprocess": given} if given else {})


def _exports(name: str, work: Path) -> Iterator[Source]:
    """A family as Ultralytics exports it."""
    from ultralytics import YOLO

    oracle = known.oracle(name, work)
    images = oracle.images.numpy()
    # Ultralytics takes yolov5n.pt for yolov5nu.pt, which it would download.
    checkpoint = oracle.checkpoint.rename(oracle.checkpoint.with_name("model.pt"))
    heads = [True, False] if name in END_TO_END else [False]
    for one_to_one in heads:
        for opset in OPSETS:
            for kind in ("plain", "simplified", "dynamic"):
                more = {"nms": False} if one_to_one else {}
                with _quiet():
                    made = YOLO(checkpoint).export(
                        format="onnx", imgsz=list(images.shape[2:]), opset=opset, simplify=False,
                        dynamic=kind == "dynamic", verbose=False, **more,
                    )  # fmt: skip
                path = work / f"{name}-{opset}-{kind}-{one_to_one}.onnx"
                Path(made).rename(path)
                if kind == "simplified":
                    _simplify(path)
                rows = ", one-to-one" if one_to_one else ""
                title = f"{name}{rows}, opset {opset}, {kind}"
                expected = _run(path, images)
                yield Source(title, path, images, expected, exported=(opset, kind) in EXPORTED)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _simplify(path: Path) -> None:
    import onnx
    import onnxsim

    simplified, fine = onnxsim.simplify(onnx.load(path))
    assert fine
    onnx.save(simplified, path)


def _run(path: Path, images: Array) -> Array:
    """What Ultralytics' file gives: [N, 4 + nc, A], or rows [N, k, 6]."""
    return zoo.Model(path, "ultralytics", lambda out: out[0]).reference(images)


Build = Callable[[Path], zoo.Model]
_S = zoo.Saved
ZOO: dict[str, Build] = {
    "yolox": zoo.yolox,
    "yolox, not decoded": lambda f: zoo.yolox(f, decoded=False),
    "yolox, opset 12": lambda f: zoo.yolox(f, saved=_S(opset=12)),
    "yolox, free sizes": lambda f: zoo.yolox(f, saved=_S(opset=20, dynamic=True)),
    "yolov5, 6x6 stem": zoo.yolov5,
    "yolov5, Focus": lambda f: zoo.yolov5(f, focus=True),
    "yolov5, raw maps": lambda f: zoo.yolov5(f, "raw"),
    "yolov5, decoded and raw": lambda f: zoo.yolov5(f, "both"),
    "yolov5, opset 12": lambda f: zoo.yolov5(f, saved=_S(opset=12)),
    "yolov5, free sizes": lambda f: zoo.yolov5(f, saved=_S(dynamic=True)),
    "yolov5, weights beside": lambda f: zoo.yolov5(f, saved=_S(external=True)),
    "yolov7": zoo.yolov7,
    "yolov7-tiny": lambda f: zoo.yolov7(f, tiny=True),
    "yolo-nas": zoo.yolo_nas,
    "damo-yolo": zoo.damo_yolo,
    "rt-detr": zoo.rt_detr,
    "rt-detr, opset 16": lambda f: zoo.rt_detr(f, saved=_S(opset=16)),
    "rt-detr, opset 20": lambda f: zoo.rt_detr(f, saved=_S(opset=20)),
    "rt-detr, opset 12, plain attention": lambda f: zoo.rt_detr(f, sampled=False, saved=_S(opset=12)),
    "rf-detr (ImageNet's means, scores)": lambda f: zoo.rt_detr(f, logits=False, imagenet=True),
    "end to end": zoo.end_to_end,
    "NonMaxSuppression": zoo.with_nms,
    "yolov7-tiny, float16": lambda f: zoo.yolov7(f, tiny=True, saved=_S(half="inputs")),
    "yolo-nas, float16 inside": lambda f: zoo.yolo_nas(f, saved=_S(half="inside")),
}  # fmt: skip


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2:])
