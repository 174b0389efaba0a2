"""The demo task reproduces its committed files, and the demo models are what their card says."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "shapes" / "data"
MODELS = ROOT / "models"
CARD = MODELS / "README.md"
BLOCKS = {
    "yolov8n": {"C2f", "SPPF"},
    "yolov5u": {"C3", "SPPF"},
    "yolov9": {"ELAN1", "AConv", "RepNCSPELAN4", "SPPELAN"},
    "yolov10": {"C2f", "C2fCIB", "RepVGGDW", "SCDown", "PSA", "Attention", "v10Detect"},
    "yolo11": {"C3k2", "C3k", "C2PSA", "Attention", "SPPF"},
    "yolo12": {"C3k2", "A2C2f", "ABlock", "AAttn"},
    "yolo26": {"C3k2", "C3k", "C2PSA", "Attention", "SPPF"},
    "yolo11-seg": {"C3k2", "C3k", "C2PSA", "Attention", "SPPF", "Proto"},
    "yolo11-pose": {"C3k2", "C3k", "C2PSA", "Attention", "SPPF"},
    "yolo11-obb": {"C3k2", "C3k", "C2PSA", "Attention", "SPPF"},
    "yolo11-cls": {"C3k2", "C3k", "C2PSA", "Attention"},
}
HEADS = {"segment": "Segment", "pose": "Pose", "obb": "OBB", "classify": "Classify"}
MODEL_CLASSES = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "classify": "ClassificationModel",
}
TWO_HEADS = {"yolov10", "yolo26"}
NAMES = sorted(path.stem.removeprefix("shapes-") for path in MODELS.glob("*.pt"))
SUFFIXES = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}
TASK_OF = {name: SUFFIXES.get(name.rpartition("-")[2], "detect") for name in NAMES}
BOXES = ("metrics/mAP50-95(B)", "metrics/mAP50(B)")
FIGURES = {
    "detect": BOXES,
    "segment": ("metrics/mAP50-95(M)", "metrics/mAP50(M)", *BOXES),
    "pose": ("metrics/mAP50-95(P)", "metrics/mAP50(P)", *BOXES),
    "obb": BOXES,
    "classify": ("metrics/accuracy_top1", "metrics/accuracy_top5"),
}
FIGURES_OF = {name: FIGURES[task] for name, task in TASK_OF.items()}
FIGURES_OF |= {name: (*BOXES, *(f"one-to-one/{key}" for key in BOXES)) for name in TWO_HEADS}


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"shapes_{name}", ROOT / f"examples/shapes/{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = load_script("generate")


@pytest.fixture(scope="module")
def checkpoints() -> dict[str, dict[str, Any]]:
    pytest.importorskip("ultralytics", reason="install the extra: pip install yolodeploy[train]")
    torch = pytest.importorskip("torch")
    files = {name: MODELS / f"shapes-{name}.pt" for name in NAMES}
    return {name: torch.load(path, weights_only=False) for name, path in files.items()}


def rows_of_the_card() -> dict[str, list[str]]:
    """The cells behind the name in the card's table of models."""
    tasks = "|".join(HEADS)
    row = rf"^\| `shapes-([\w-]+)\.pt` \|(?: (?:{tasks}) \|)?(.*)\|$"
    rows = re.findall(row, CARD.read_text(), re.MULTILINE)
    return {name: [cell.strip(" *") for cell in cells.split("|")] for name, cells in rows}


def read_rgb(path: Path) -> np.ndarray:
    return generate.from_jpeg(path.read_bytes())  # type: ignore[no-any-return]


def labels_of(split: str) -> np.ndarray:
    lines = "".join(path.read_text() for path in sorted((DATA / "labels" / split).glob("*.txt")))
    return np.array([line.split() for line in lines.splitlines()], np.float64)


def test_an_image_depends_on_seed_split_and_index_alone() -> None:
    first = generate.draw("val", 7, seed=3)
    generate.draw("val", 8, seed=3)
    again = generate.draw("val", 7, seed=3)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    for other in (
        generate.draw("val", 8, seed=3),
        generate.draw("val", 7, seed=4),
        generate.draw("train", 7, seed=3),
    ):
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("split", "count"), [("train", 64), ("val", 200)])
def test_committed_splits_are_complete(split: str, count: int) -> None:
    names = [f"{index:05d}" for index in range(count)]
    assert sorted(path.stem for path in (DATA / "images" / split).iterdir()) == names
    assert sorted(path.stem for path in (DATA / "labels" / split).glob("*.txt")) == names
    image = cv2.imread(str(DATA / "images" / split / "00000.jpg"))
    assert image is not None
    assert image.shape == (160, 160, 3)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("index", [0, 21, 42, 63])
def test_the_generator_reproduces_the_committed_files(split: str, index: int) -> None:
    sample = generate.draw(split, index)
    committed = (DATA / "labels" / split / f"{index:05d}.txt").read_text()
    assert generate.label_text(sample) == committed
    fresh = generate.from_jpeg(generate.to_jpeg(sample.image)).astype(float)
    assert np.abs(fresh - read_rgb(DATA / "images" / split / f"{index:05d}.jpg")).mean() < 1.0


def test_jpeg_changes_little() -> None:
    sample = generate.draw("val", 0)
    decoded = generate.from_jpeg(generate.to_jpeg(sample.image)).astype(float)
    assert np.abs(decoded - sample.image).mean() < 6.0


def test_written_folder_is_the_committed_layout(tmp_path: Path) -> None:
    generate.write_split(tmp_path, "val", 1, 160, 0)
    assert (tmp_path / "labels/val/00000.txt").read_text() == (
        DATA / "labels/val/00000.txt"
    ).read_text()
    assert (tmp_path / "images/val/00000.jpg").is_file()
    assert generate.data_yaml() == (DATA / "data.yaml").read_text()


@pytest.mark.parametrize(("split", "fewest"), [("train", 25), ("val", 100)])
def test_labels_are_inside_the_image_and_every_class_is_common(split: str, fewest: int) -> None:
    labels = labels_of(split)
    kinds, counts = np.unique(labels[:, 0], return_counts=True)
    assert kinds.tolist() == [0, 1, 2, 3, 4]
    assert counts.min() >= fewest
    centres, sizes = labels[:, 1:3], labels[:, 3:]
    assert (centres - sizes / 2 >= -1e-6).all()
    assert (centres + sizes / 2 <= 1 + 1e-6).all()
    assert (sizes * 160).min() > 3
    assert (sizes * 160).max() <= 73.01


def test_a_label_is_the_box_of_the_shape() -> None:
    rng = np.random.default_rng(0)
    for kind in range(len(generate.NAMES)):
        thing = generate.Thing(kind, x=80.0, y=70.0, radius=40.0, turn=0.3)
        rows, columns = np.nonzero(generate.inside(rng, thing, 160) > 0)
        _, x, y, width, height = generate.label(thing, 160) * 160
        drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        labelled = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        assert np.abs(np.subtract(drawn, labelled)).max() < 1.5, generate.NAMES[kind]


def test_a_hidden_object_has_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    under, over = generate.Thing(2, 80, 80, 20, 0), generate.Thing(0, 80, 80, 30, 0)
    monkeypatch.setattr(generate, "scatter", lambda *_: [under, over])
    assert generate.draw("val", 0).labels[:, 0].tolist() == [0]
    monkeypatch.setattr(generate, "scatter", lambda *_: [over, under])
    assert generate.draw("val", 0).labels[:, 0].tolist() == [0, 2]


def test_committed_files_are_small() -> None:
    files = [path for path in DATA.rglob("*") if path.suffix in {".jpg", ".txt", ".yaml"}]
    assert sum(path.stat().st_size for path in files) < 3_000_000
    for task in HEADS:
        files = [path for path in DATA.with_name(f"data-{task}").rglob("*.*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 3_000_000, task
    assert (ROOT / "examples/shapes/samples.png").stat().st_size < 150_000
    sizes = {name: (MODELS / f"shapes-{name}.pt").stat().st_size for name in NAMES}
    assert sizes.pop("yolov8n") < 7_000_000
    assert max(sizes.values()) < 1_500_000


def test_the_card_lists_every_model() -> None:
    assert sorted(rows_of_the_card()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_a_plain_ultralytics_one(
    name: str, checkpoints: dict[str, dict[str, Any]]
) -> None:
    checkpoint = checkpoints[name]
    model = checkpoint["model"]
    assert checkpoint["ema"] is None
    assert {str(value.dtype) for value in model.parameters()} == {"torch.float16"}
    task = TASK_OF[name]
    assert checkpoint["train_args"]["task"] == model.task == task
    assert tuple(model.names.values()) == generate.names_of(task)
    assert type(model.args) is dict
    assert model.stride.tolist() == ([1] if task == "classify" else [8, 16, 32])
    assert checkpoint["train_args"]["imgsz"] == (64 if task == "classify" else 160)
    assert checkpoint["train_args"]["model"] == model.yaml["yaml_file"]
    assert type(model.model[-1]).__name__ == HEADS.get(task, type(model.model[-1]).__name__)
    assert {type(module).__name__ for module in model.modules()} >= BLOCKS[name]
    assert hasattr(model.model[-1], "one2one_cv2") == (name in TWO_HEADS)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_names_only_ultralytics_and_torch_layers(name: str) -> None:
    torch = pytest.importorskip("torch")
    path = MODELS / f"shapes-{name}.pt"
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    layers = ("torch.nn.modules.", "ultralytics.nn.modules.")
    assert [name for name in names if not name.startswith(layers)] == [
        f"ultralytics.nn.tasks.{MODEL_CLASSES[TASK_OF[name]]}"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_script_builds_what_a_checkpoint_holds(
    name: str, checkpoints: dict[str, dict[str, Any]]
) -> None:
    families = load_script("families")
    built = families.build(families.FAMILIES[name], len(generate.NAMES), (4, 3))
    held = checkpoints[name]["model"].state_dict()
    assert {key: value.shape for key, value in built.state_dict().items()} == {
        key: value.shape for key, value in held.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_what_is_in_a_checkpoint(
    name: str, checkpoints: dict[str, dict[str, Any]]
) -> None:
    checkpoint = checkpoints[name]
    parameters, size, first, second, third, fourth, _ = rows_of_the_card()[name]
    count = sum(value.numel() for value in checkpoint["model"].parameters())
    assert parameters == f"{count:,}"
    assert size == f"{(MODELS / f'shapes-{name}.pt').stat().st_size / 1e6:.2f}"
    figures = checkpoint["train_metrics"]
    cells = first, second, third, fourth
    told = dict(zip(FIGURES_OF[name], cells, strict=False))
    assert told == {key: f"{figures[key]:.3f}" for key in told}
    assert set(cells[len(told) :]) <= {"-", ""}
    assert float(first) >= (0.95 if TASK_OF[name] == "classify" else 0.6)
    assert name not in TWO_HEADS or float(third) >= 0.6
