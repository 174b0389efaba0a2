"""Fixtures for all tests: a small data set, an isolated store, and the real models and images."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from real_model import DEMO, ROOT, SHARED, RealModel

# A suite in the background of a script ignores Ctrl-C, and so would every process that tests stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NAMES = ("red", "green", "blue")
_BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


# Workers beside each other on few processors: threads of one would wait for those of the other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without bytecode, every process that a test starts compiles the whole project anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test cuts the power, and waiting for the disk takes half of the time of a small deployment.
os.fsync = lambda _: None


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--model best.pt`: run the contract suite on another YOLOv8 checkpoint."""
    parser.addoption("--model", type=Path, default=DEMO, help="a checkpoint for tests/contract")


def draw(folder: Path, split: str, number: int, classes: tuple[str, ...] = NAMES) -> Path:
    """Write one image of 64 x 48 pixels with a rectangle per class, and its labels."""
    rng = np.random.default_rng([number, len(split)])
    image = np.full((48, 64, 3), 90 + number % 50, np.uint8)
    rows = []
    for index, name in enumerate(classes):
        width, height = (int(v) for v in rng.integers(10, 18, 2))
        left = 1 + 21 * index + int(rng.integers(0, 3))
        top = int(rng.integers(0, 48 - height))
        image[top : top + height, left : left + width] = _BGR[name]
        box = ((left + width / 2) / 64, (top + height / 2) / 48, width / 64, height / 48)
        rows.append(f"{NAMES.index(name)} " + " ".join(f"{value:.6f}" for value in box))
    path = folder / "images" / split / f"{split}{number:03}.{'jpg' if number == 1 else 'png'}"
    label = folder / "labels" / split / f"{split}{number:03}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    label.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def draw_dataset(folder: Path, train: int = 4, val: int = 6) -> Path:
    """Write a data set and return its data.yaml."""
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            draw(folder, split, number)
    file = folder / "data.yaml"
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(NAMES))
    file.write_text(f"train: images/train\nval: images/val\nnames:\n{names}", encoding="utf-8")
    return file


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """data.yaml of a few small labelled images."""
    return draw_dataset(tmp_path / "data")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, used by this test alone."""
    root = tmp_path / "cache"
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(root))
    return root


@pytest.fixture(scope="session")
def coco() -> RealModel:
    """The COCO checkpoint and images that are kept beside the repository."""
    return _real(
        SHARED / "models" / "yolov8n-coco.pt",
        SHARED / "coco" / "data.yaml",
        640,
        "set YOLODEPLOY_SHARED to the folder that holds models/yolov8n-coco.pt and coco/data.yaml",
    )


@pytest.fixture(scope="session")
def demo() -> RealModel:
    """The demo model that comes with the repository."""
    return _real(
        DEMO,
        ROOT / "examples" / "shapes" / "data" / "data.yaml",
        160,
        "restore it from the repository",
    )


def _real(weights: Path, data: Path, imgsz: int, remedy: str) -> RealModel:
    for path in (weights, data):
        if not path.is_file():
            pytest.skip(f"{path} is missing; {remedy}")
    return RealModel(weights, data, imgsz)


@pytest.fixture(scope="session")
def dataset_in() -> Callable[..., Path]:
    """`draw_dataset`, for tests that need several data sets or other sizes."""
    return draw_dataset
