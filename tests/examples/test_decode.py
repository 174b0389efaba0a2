"""The decoders of `examples/decode` find in golden outputs what yolodeploy found, for every task and layout."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from yolodeploy.backend import Interface, ModelInfo, Tensor
from yolodeploy.bundle.app_contract import app_files
from yolodeploy.data.images import letterbox
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Golden, Seen, app_rules, evaluation_rules, task_of

DECODE = Path(__file__).parents[2] / "examples" / "decode"
NAMES = ("circle", "star", "square")
TASKS = ("detect", "segment", "pose", "obb")
LAYOUTS = [
    ("one-to-many", "anchors", "center"),
    ("one-to-one", "anchors", "top-left"),
    ("one-to-one", "rows", "stretch"),
]
HIGH, WIDE, ANCHORS = 64, 96, 126


def _module(name: str) -> ModuleType:
    """A module of the example; its folder is on the path only meanwhile."""
    sys.path.insert(0, str(DECODE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DECODE))


def _run(bundle: Path) -> int:
    sys.path.insert(0, str(DECODE))
    try:
        spec = importlib.util.spec_from_file_location("decode_main", DECODE / "__main__.py")
        assert spec is not None
        assert spec.loader is not None
        main = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(main)
    finally:
        sys.path.remove(str(DECODE))
    code: int = main.main([str(bundle)])
    return code


def _extras(task: str, rng: np.random.Generator, keypoints: tuple[int, int]) -> np.ndarray:
    match task:
        case "segment":
            return rng.normal(0, 1, (32, ANCHORS))
        case "obb":
            return rng.uniform(-np.pi / 4, np.pi * 3 / 4, (1, ANCHORS))
        case "pose":
            count, numbers = keypoints
            points = rng.uniform(-10, 100, (count, 2, ANCHORS))
            visible = rng.uniform(0, 1, (count, numbers - 2, ANCHORS))
            return np.concatenate([points, visible], axis=1).reshape(-1, ANCHORS)
        case _:
            return np.zeros((0, ANCHORS))


def _outputs(task: str, layout: str, keypoints: tuple[int, int]) -> dict[str, np.ndarray]:
    """Clusters of boxes, some beyond the image, with many equal scores."""
    rng = np.random.default_rng(7)
    centres = rng.uniform(-5, 100, (2, 6))[:, rng.integers(0, 6, ANCHORS)]
    centres += rng.normal(0, 2, centres.shape)
    sizes = rng.uniform(0.1, 0.5, (2, ANCHORS)) * np.array([[WIDE], [HIGH]])
    scores = np.round(rng.uniform(0, 1, (len(NAMES), ANCHORS)), 1)
    extras = _extras(task, rng, keypoints)
    table = np.concatenate([centres, sizes, scores, extras])
    if layout == "rows":
        corners = [centres - sizes / 2, centres + sizes / 2]
        box = np.concatenate([centres, sizes] if task == "obb" else corners)
        found = np.concatenate([box, [scores.max(0)], [scores.argmax(0)], extras])
        table = found[:, np.argsort(-scores.max(0), kind="stable")].T
    outputs = {"output": np.ascontiguousarray(table, np.float32)}
    if task == "segment":
        maps = rng.normal(0, 1, (32, HIGH // 4, WIDE // 4))
        outputs["prototypes"] = maps.astype(np.float32)
    return outputs


def _bundle(
    folder: Path, info: ModelInfo, outputs: dict[str, np.ndarray], layout: str, **inside: float
) -> Path:
    """What a deployment writes for an app, with these outputs of the artifact."""
    (folder / "golden").mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    cv2.imwrite(str(folder / "picture.png"), pixels)
    shape = ImageShape(HIGH, WIDE)
    box = letterbox(pixels, info.images(shape))
    tensor = box.pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    rules = app_rules(info.task).for_head(info.head)
    rules = rules.with_thresholds(inside.get("confidence"), inside.get("iou"))
    golden = Golden(folder / "golden", rules)
    golden.offer(
        Seen(
            number=0,
            image=folder / "picture.png",
            box=box,
            tensor=tensor,
            truth=None,
            outputs=(outputs,),
            layouts=(layout,),  # type: ignore[arg-type]
            task=task_of(info),
            rules=evaluation_rules(info.task),
        )
    )
    golden.finish()
    given = [Tensor(name, (1, *one.shape), "float32", "") for name, one in outputs.items()]
    image = Tensor("images", (1, 3, HIGH, WIDE), "float32", "")
    interface = Interface("model", (image,), tuple(given), 1 / 255, **inside)
    plan: Any = SimpleNamespace(facts=None, imgsz=shape, target=SimpleNamespace(gpu=None))
    for name, data in app_files(plan, info, interface, layout).items():  # type: ignore[arg-type]
        (folder / name).write_bytes(data)
    return folder


def _info(task: str, head: str, fit: str, keypoints: tuple[int, int] = (4, 3)) -> ModelInfo:
    shape = keypoints if task == "pose" else None
    return ModelInfo(task, NAMES, (8,), 1, head=head, fit=fit, kpt_shape=shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(("head", "layout", "fit"), LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
def test_objects(
    task: str, head: str, layout: str, fit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = _outputs(task, layout, (4, 3))
    bundle = _bundle(tmp_path / "b", _info(task, head, fit), outputs, layout)
    golden = json.loads((bundle / "golden/detections.json").read_text())["detections"]
    assert len(golden) > 20
    code, text = _run(bundle), capsys.readouterr().out
    assert (code, text.splitlines()[-1]) == (0, "equal to the golden results")
    assert f"{task}, layout {layout}: {len(golden)} found" in text
    assert ("0 pixels of the masks differ" in text) == (task == "segment")


def test_keypoints_without_visibility(tmp_path: Path) -> None:
    info = _info("pose", "one-to-many", "center", (5, 2))
    assert _run(_bundle(tmp_path / "b", info, _outputs("pose", "anchors", (5, 2)), "anchors")) == 0


def test_an_artifact_that_suppresses(tmp_path: Path) -> None:
    info, outputs = _info("detect", "one-to-many", "center"), _outputs("detect", "anchors", (4, 3))
    bundle = _bundle(tmp_path / "b", info, outputs, "anchors", confidence=0.4, iou=0.5)
    contract = json.loads((bundle / "contract.json").read_text())
    assert contract["postprocess"]["layout"] == "detections"
    assert _run(bundle) == 0


@pytest.mark.parametrize("classes", [3, 8])
def test_classes(classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probabilities = np.full(classes, 1 / classes, np.float32)
    probabilities[2] = 0.9
    info = ModelInfo("classify", tuple("abcdefgh"[:classes]), (32,), 1, fit="crop")
    bundle = _bundle(tmp_path / "b", info, {"output": probabilities}, "anchors")
    assert _run(bundle) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"classify, layout probabilities: {min(classes, 5)} found",
        "  c 0.900 class 2",
    ]


@pytest.mark.parametrize(
    ("task", "key", "change", "message"),
    [
        ("detect", "box", lambda box: [box[0] + 0.01, *box[1:]], "result 0: box is"),
        ("obb", "angle", lambda angle: angle + 1e-4, "result 0: angle is"),
        ("pose", "keypoints", lambda all_: [*all_[:3], [0, 0, 0]], "result 0: keypoints is"),
        ("segment", "mask", lambda mask: mask | {"area": 1}, "pixels of the mask are wrong"),
        ("detect", "class", lambda cls: (cls + 1) % 3, "result 0: class is"),
    ],
)
def test_other_golden_results_are_told(
    task: str,
    key: str,
    change: Any,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = _outputs(task, "anchors", (4, 3))
    bundle = _bundle(tmp_path / "b", _info(task, "one-to-many", "center"), outputs, "anchors")
    file = bundle / "golden/detections.json"
    golden = json.loads(file.read_text())
    golden["detections"][0][key] = change(golden["detections"][0][key])
    file.write_text(json.dumps(golden))
    code, text = _run(bundle), capsys.readouterr().out
    assert code == 1
    assert message in text
    assert text.endswith("differs from the golden results\n")


def test_the_command(tmp_path: Path) -> None:
    """As the README starts it; an input of another shape than the contract's is told."""
    info, outputs = _info("detect", "one-to-many", "center"), _outputs("detect", "anchors", (4, 3))
    bundle = _bundle(tmp_path / "b", info, outputs, "anchors")
    np.save(bundle / "golden/input.npy", np.zeros((1, 3, 32, 32), np.float32))
    command = [sys.executable, str(DECODE), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "input.npy is (1, 3, 32, 32), by the contract (1, 3, 64, 96)" in done.stdout


def test_run_lengths_are_those_of_coco() -> None:
    """Against an implementation that is not ours; runs of hundreds of pixels need more than one character."""
    from faster_coco_eval.core import mask as api

    rle = _module("rle")
    rng = np.random.default_rng(3)
    for height, width, share in ((1, 1, 0.5), (40, 70, 0.5), (60, 50, 0.01), (90, 100, 0)):
        mask = rng.uniform(size=(height, width)) < share
        mask[: height // 2, width // 3 :] = True
        packed = api.encode(np.asfortranarray(mask, np.uint8))
        counts = packed["counts"]
        text = counts.decode() if isinstance(counts, bytes) else counts
        assert rle.pack(mask) == text
        assert np.array_equal(rle.unpack({"size": [height, width], "counts": text}), mask)
