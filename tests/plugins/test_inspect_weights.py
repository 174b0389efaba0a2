"""`yolodeploy inspect` of real weights: figures, one sentence for what is damaged, and no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pickles import call, named, text, whole, zipped
from real_model import DEMO, ROOT

from yolodeploy.backend import ModelInfo, load_registry
from yolodeploy.cli import main as cli
from yolodeploy.planning import possibilities

MODELS = ROOT / "models"
_CHILD = """
import json, sys
from yolodeploy.cli.main import main
from yolodeploy.system import peak_memory_mb
code = main(["inspect", sys.argv[1], "--json"])
heavy = [name for name in ("torch", "coremltools", "openvino", "ncnn", "cv2") if name in sys.modules]
print(json.dumps([code, heavy, peak_memory_mb()]), file=sys.stderr)
"""


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["inspect", str(path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("name", "family", "heads", "parameters", "flops"),
    [
        ("shapes-yolov8n", "YOLOv8", ["one-to-many"], 3_011_823, 505_440_000),
        ("shapes-yolov5u", "YOLOv5", ["one-to-many"], 634_895, 246_034_400),
        ("shapes-yolov10", "YOLOv10", ["one-to-one", "one-to-many"], 404_383, 153_966_400),
        ("shapes-yolo11", "YOLO11", ["one-to-many"], 638_031, 222_820_000),
        ("shapes-yolo26", "YOLO26", ["one-to-one", "one-to-many"], 450_859, 155_988_800),
    ],
)
def test_a_demo_model(
    name: str,
    family: str,
    heads: list[str],
    parameters: int,
    flops: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = MODELS / f"{name}.pt"
    found = inspected(path, capsys)
    assert (found["family"], found["scale"], found["task"]) == (family, "n", "detect")
    assert found["classes"] == ["circle", "triangle", "square", "pentagon", "star"]
    assert (found["trained_at"], found["heads"]) == (160, heads)
    assert (found["parameters"], found["flops"]) == (parameters, flops)
    assert sum(part["parameters"] for part in found["parts"]) == parameters
    assert sum(part["flops"] for part in found["parts"]) == flops
    assert found["bytes"] == path.stat().st_size
    assert 0.7 < found["weights_bytes"]["fp16"] / found["bytes"] < 1
    assert found["weights_checked"]


def test_what_can_be_done_with_it_on_which_target(capsys: pytest.CaptureFixture[str]) -> None:
    targets = {row["backend"]: row for row in inspected(DEMO, capsys)["targets"]}
    steps = {name: {s["step"]: s for s in row["steps"]} for name, row in targets.items()}
    assert list(steps["ncnn"]) == ["export", "w8", "quantize"]
    assert "FEAT_DotProd" in steps["ncnn"]["quantize"]["refused"]["raspberry-pi-4"]
    assert steps["ncnn"]["w8"]["refused"] == {}
    assert "pixel-8" in targets["ncnn"]["devices"]
    assert targets["coreml"]["before_export"] == ["prune", "finetune", "distill", "qat"]


def test_the_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(DEMO)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  model       YOLOv8 detect, scale n, RGB images, trained at 160 px" in lines
    assert "  head.last          6       13,455     4.6 M  6 x fp16" in lines


def test_reading_a_checkpoint_imports_no_toolchain() -> None:
    command = [sys.executable, "-c", _CHILD, str(DEMO)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, heavy, megabytes = json.loads(done.stderr)
    assert (code, heavy) == (0, [])
    assert megabytes < 150


def _cut(path: Path) -> None:
    path.write_bytes(DEMO.read_bytes()[:100_000])


def _diverged(path: Path) -> None:
    """The demo model with a NaN among its largest weights; the archive is whole."""
    with zipfile.ZipFile(DEMO) as given, zipfile.ZipFile(path, "w") as made:
        largest = max(given.infolist(), key=lambda entry: entry.file_size)
        for entry in given.infolist():
            data = given.read(entry)
            made.writestr(entry, b"\x00\x7e" + data[2:] if entry is largest else data)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.pt": (lambda path: path.write_text("hello"), "is not a PyTorch checkpoint"),
    "b.pt": (_cut, "is damaged or cut off"),
    "c.pt": (
        lambda path: zipped(path, whole(call(named("os", "system"), text("true")))),
        "asks to run `os.system`",
    ),
    "nan.pt": (_diverged, "holds NaN or infinity"),
    "d.tflite": (lambda path: path.touch(), "no installed plugin reads .tflite files"),
    "e": (lambda path: path.mkdir(), "nothing that an installed plugin made"),
    "f.pt": (lambda path: path.mkdir(), "nothing that an installed plugin made"),
    "g.pt": (lambda _: None, "does not exist"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_inspected_is_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, said = BROKEN[name]
    make(tmp_path / name)
    assert cli.main(["inspect", str(tmp_path / name)]) == 5
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("\n") == 1
    assert said in caught.err


def test_a_model_of_which_only_the_outputs_are_known() -> None:
    model = ModelInfo("detect", ("cat",), (32,), 9, known="outputs", obstacle="node a (GridSample)")
    for found in possibilities(load_registry(), ".pt", model):
        cut = next(option for option in found.source if option.step == "prune")
        assert set(cut.refused) == set(found.devices)
        assert set(cut.refused.values()) == {
            "it works on the layers of a model, and this one can only be passed on as it is: node a (GridSample)"
        }
