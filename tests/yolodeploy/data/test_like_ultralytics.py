"""Data sets are read as Ultralytics' own loader reads them: the same names, images and boxes."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolodeploy.data import Dataset, load_view, same_name
from yolodeploy.data.images import read_image
from yolodeploy.data.label_rows import RowFormat
from yolodeploy.data.labels import read_labels
from yolodeploy.data.paths import SUFFIXES
from yolodeploy.recipe import View

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

ONE = "0 0.5 0.5 0.2 0.3\n"
NAMES = "names: [a, b]\n"
HEIC = (  # 48 x 64 pixels
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAb5tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB4gABAAAAAAAAAPgAAgAAAAAC2gABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAA"
    "ABppcmVmAAAAAAAAAA5jZHNjAAIAAQABAAABJG1kYXQAAAD0KAGvCeCBRjHKePf4qacs/mxsIDfAZ6rGQpvbNTl0y5W78zEd5QB0"
    "rY7y4ZqFm98epn8ZraJQOMkiShghamz5dWgkR2P20vpP0bUUalk+1VLSq8kcHgoTp+FeQuOxJWSg1tM1STwdYPqq13MLpSqK/PMC"
    "IiwCTXn+64wq9AAI9KX4lddrzBR9C+EPiRAs5H6QKmC+1YJNQ+IBJ1q/KXngJ0P0VHv9goe2pS2WeT8Cfs/hldtfv9+5VL9nmhl7"
    "in/RaXirkGrwT4PRDT1ffob6MfUgln4zIVLw5WOr5RhJuZRWDgTVMY1T8MUVQxVJ18F0/9gbuAAAAAZFeGlmAABNTQAqAAAACAAB"
    "ARIAAwAAAAEAAQAAAAAAAA=="
)
PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
Boxes = dict[str, list[tuple[float, ...]]]


def image(path: Path, label: str | bytes | None = ONE) -> Path:
    """Write an image in the format of its suffix, and its label file by the usual rule."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower() if path.suffix not in (".mpo", ".heic") else ".jpg"
    path.write_bytes(cv2.imencode(suffix, PIXELS)[1].tobytes())
    if label is not None:
        parts = ["labels" if part == "images" else part for part in path.parts]
        text = Path(*parts).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_bytes(label if isinstance(label, bytes) else label.encode())
    return path


def theirs(file: Path) -> tuple[tuple[str, ...], Boxes]:
    """Class names, and boxes by image, as Ultralytics' `val` reads them."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(file), autodownload=False)
    found = YOLODataset(
        img_path=data["val"], data=data, task="detect", imgsz=64, augment=False, rect=False
    )
    boxes = {
        os.path.realpath(row["im_file"]): sorted(
            (int(cls), *box)
            for cls, box in zip(row["cls"][:, 0], row["bboxes"].tolist(), strict=True)
        )
        for row in found.labels
    }
    return tuple(name for _, name in sorted(data["names"].items())), boxes


def ours(view: Dataset) -> Boxes:
    return {
        os.path.realpath(path): sorted(
            (b.cls, b.x, b.y, b.width, b.height) for b in view.boxes(path)
        )
        for path in view.images
    }


def agree(file: Path) -> Dataset:
    names, boxes = theirs(file)
    view = load_view(file, View(), 0)
    assert view.names == names
    mine = ours(view)
    assert mine.keys() == boxes.keys()
    for path, rows in boxes.items():
        assert np.allclose(mine[path], rows, atol=1e-6), path
    assert view.counts.images == len(boxes)
    assert view.counts.objects == sum(map(len, boxes.values()))
    return view


def roboflow(root: Path) -> str:
    for split in ("train", "valid"):
        image(root / split / "images/a.jpg")
    return "train: ../train/images\nval: ../valid/images\nnc: 2\n" + NAMES


def both_places(root: Path) -> str:
    image(root / "valid/images/inner.jpg")
    image(root.parent / "valid/images/outer.jpg")
    return "train: valid/images\nval: ../valid/images\n" + NAMES


def other_key(root: Path) -> str:
    image(root / "images/val/a.jpg")
    return "train: images/val\nvalidation: images/val\n" + NAMES


def every_suffix(root: Path) -> str:
    from ultralytics.data.utils import IMG_FORMATS

    assert {f".{suffix}" for suffix in IMG_FORMATS} == SUFFIXES
    for suffix in ("jpg", "JPG", "jpeg", "PNG", "bmp", "webp", "tif", "jp2", "avif", "mpo"):
        image(root / f"images/val/{suffix}.{suffix}")
    image(root / "images/val/photo.heic").write_bytes(base64.b64decode(HEIC))
    for name in ("._a.jpg", ".hidden.png", ".folder/a.jpg", "a.gif"):
        (root / "images/val" / name).parent.mkdir(exist_ok=True)
        (root / "images/val" / name).write_bytes(b"\0")
    (root / "images/val/.DS_Store").write_bytes(b"\0")
    (root / "images/val/bare").write_bytes(b"\0")
    return "train: images/val\nval: images/val\n" + NAMES


def linked_folders(root: Path) -> str:
    image(root / "images/val/a.jpg")
    image(root / "other/pictures/b.jpg", None)
    (root / "labels/val/more").mkdir()
    (root / "labels/val/more/b.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    (root / "images/val/more").symlink_to(root / "other/pictures")
    return "train: images/val\nval: images/val\n" + NAMES


def linked_split(root: Path) -> str:
    image(root / "real/images/q/a.jpg", "1 0.5 0.5 0.4 0.4\n")
    image(root / "labels/val/a.jpg").unlink()
    (root / "images").mkdir()
    (root / "images/val").symlink_to(root / "real/images/q")
    return "train: images/val\nval: images/val\n" + NAMES


def list_with_a_bom(root: Path) -> str:
    image(root / "images/val/a.jpg")
    image(root / "images/val/b.jpg", None)
    (root / "val.txt").write_bytes(b"\xef\xbb\xbf./images/val/a.jpg\r\n./images/val/b.jpg\r\n")
    return "\ufefftrain: images/val\nval: val.txt\n" + NAMES


def lenient_labels(root: Path) -> str:
    rows: list[str | bytes] = [
        "0 .5 .5 1.0004 .2\n1 -0.0004 .5 .2 .2\n", "0 1.01 1.01 1.01 0\n0 -0.01 .5 .1 .1\n",
        b"\xef\xbb\xbf0 .5 .5 .1 .1\n", "0\t.5\t.5\t.1\t.1\r\n1.0 .5 .5 .2 .2 \r\n", "", "\n \n",
        "0 .5 .5 .1 .1\n0 .5 .5 .1 .100000000001\n1 .5 .5 .1 .1\n", "0 .1 .1 1.005 .1 .5 .3\n",
        "0 .95 .5 .3 .2\n", "0 -.005 .1 .5 .1 .5 .3\n",
    ]  # fmt: skip
    for number, row in enumerate(rows):
        image(root / f"images/val/{number}.jpg", row)
    return "train: images/val\nval: images/val\n" + NAMES


LAYOUTS = (
    roboflow, both_places, other_key, every_suffix, linked_folders, linked_split, list_with_a_bom, lenient_labels,
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: Callable[[Path], str]) -> None:
    root = tmp_path / "set"
    (root / "labels/val").mkdir(parents=True)
    text = layout(root)
    (root / "data.yaml").write_text(text, encoding="utf-8")
    view = agree(root / "data.yaml")
    if layout is every_suffix:
        assert dict(view.counts.skipped) == {"hidden": 4, ".gif": 1, "without a suffix": 1}


REFUSED = {
    "beyond": "0 .5 .5 1.0101 .2\n",
    "negative": "0 -0.0101 .5 .2 .2\n",
    "negative width": "0 .5 .5 -0.005 .2\n",
    "class": "2 .5 .5 .1 .1\n",
    "utf-16": "0 .5 .5 .1 .1\n".encode("utf-16"),
}


def test_what_ultralytics_drops_is_at_fault(tmp_path: Path) -> None:
    for name, row in REFUSED.items():
        image(tmp_path / f"images/val/{name}.jpg", row)
    kept = image(tmp_path / "images/val/good.jpg")
    (tmp_path / "data.yaml").write_text("train: images/val\nval: images/val\n" + NAMES)
    _, boxes = theirs(tmp_path / "data.yaml")
    assert list(boxes) == [str(kept)]
    for name in REFUSED:
        assert read_labels(tmp_path / f"labels/val/{name}.txt", RowFormat("detect", 2)).faults, name


CLASSES = (
    "names: [02146, 08, 1e3, 1_000, 12:30, on, off, null, yes, ~, 0x1F, 1.50, 2024-01-01, 1.e+3, y, '02', \"on\"]",
    "names: {'0': a, '1': b}",
    "names: {1: b, 0x0: a}",
    "names: {0: , 1: no}",
    "nc: 3",
    "nc: '2'\nnames: [a, b]",
    "names: [Café, [x], 'a b']",
)


@pytest.mark.parametrize("text", CLASSES)
def test_class_names(tmp_path: Path, text: str) -> None:
    image(tmp_path / "images/val/a.jpg")
    (tmp_path / "data.yaml").write_text(f"train: images/val\nval: images/val\n{text}\n")
    agree(tmp_path / "data.yaml")


def test_names_in_a_windows_code_page(tmp_path: Path) -> None:
    image(tmp_path / "images/val/a.jpg")
    text = "train: images/val\nval: images/val\nnames: [L\xf6we, b]\n".encode("cp1252")
    (tmp_path / "data.yaml").write_bytes(text)
    agree(tmp_path / "data.yaml")


def test_names_that_differ_only_by_the_yaml_version() -> None:
    for one, other in (
        ("1126", "02146"),
        ("True", "on"),
        ("1e3", "1000.0"),
        ("1000", "1_000"),
        ("None", "~"),
    ):
        assert same_name(one, other)
        assert same_name(other, one)
    assert not same_name("True", "False")
    assert not same_name("2146", "2147")


def test_pixels_of_every_format(tmp_path: Path) -> None:
    from ultralytics.utils.patches import imread

    photo = tmp_path / "images/photo.heic"
    for suffix in ("jpg", "png", "webp", "jp2", "avif", "bmp", "tiff"):
        image(tmp_path / f"images/a.{suffix}", None)
    photo.write_bytes(base64.b64decode(HEIC))
    turned = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "images/turned.jpg").write_bytes(turned[:2] + segment + turned[2:])
    for path in sorted((tmp_path / "images").iterdir()):
        assert np.array_equal(read_image(path)[:, :, ::-1], imread(str(path))), path.name
    for name in ("photo.heic", "a.jpg"):
        grey = tmp_path / "images" / name
        assert np.array_equal(read_image(grey, 1), imread(str(grey), cv2.IMREAD_GRAYSCALE)), name
    assert read_image(tmp_path / "images/turned.jpg").shape == (64, 48, 3)
    assert read_image(photo)[10, 10].tolist() == [250, 20, 30]


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    import pi_heif

    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, len(mode)), dtype=np.uint8)
    opened = pi_heif.from_bytes(mode, (30, 20), pixels.tobytes())
    monkeypatch.setattr("pi_heif.open_heif", lambda *_, **__: opened)
    photo = tmp_path / "photo.heic"
    photo.write_bytes(base64.b64decode(HEIC))
    for channels in (1, 3):
        assert np.array_equal(
            read_image(photo, channels), pixels[:, :, :1].repeat(channels, axis=2)
        )
