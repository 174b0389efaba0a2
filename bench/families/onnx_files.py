"""ONNX files of every kind: the families as Ultralytics exports them, and small models built as other projects build theirs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import ROOT
from bench.families.every_family import known

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "plugins")]

import onnx_models as zoo  # noqa: E402 - found by the path above

FAMILIES = ("yolov5n", "yolov8n", "yolov8n-p2", "yolov8n-ghost", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n")  # fmt: skip
OPSETS = (12, 13, 15, 17, 18, 19, 20)
EXPORTED = {(12, "simplified"), (20, "dynamic")}  # what backends export; PyTorch runs all
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


def of_zoo(name: str, model: zoo.Model) -> Source:
    """A small model of the tests."""
    images = model.images()
    told = _told(model)
    return Source(name, model.path, images, model.reference(images), told)


def _told(model: zoo.Model) -> dict[str, Any]:
    pixels, usual = model.pixels, zoo.Pixels()
    given = {key: value for key, value in vars(pixels).items() if value != getattr(usual, key)}
    return {"names": zoo.NAMES} | ({"preprocess": given} if given else {})


def exports(name: str, work: Path) -> Iterator[Source]:
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
