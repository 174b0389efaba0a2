"""Small data sets of every task but detection, whose labels can be held against the pixels."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.recipe.fields import View

WIDTH, HEIGHT = 120, 80  # of the images
IMAGES = 6
NAMES = ("red", "green", "blue")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))  # of classes
DOTS = ((255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255))  # of keypoints
MIRRORED = (0, 3, 2, 1)

Points = NDArray[np.float64]


def kites() -> list[tuple[int, Points]]:
    """Two objects: the class, and four corners in px of the drawn image; the second is a rotated rectangle."""
    rng = np.random.default_rng(len(DOTS))
    found = []
    for number in range(IMAGES):
        kite = np.array([[34, 24], [48, 40], [34, 56], [20, 40]]) + rng.integers(-8, 8, 2)
        turn = 0.4 * number
        along, across = (
            np.array([math.cos(turn), math.sin(turn)]),
            np.array([-math.sin(turn), math.cos(turn)]),
        )
        box = [i * 17 * along + j * 8 * across for i, j in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
        found.append(((number % 3, kite), ((number + 1) % 3, np.add(box, (86, 40)))))
    return found


def drawn(folder: Path, task: str) -> Dataset:
    """Six images with two objects each, and their labels for a task."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, objects in enumerate(kites()):
        image = np.full((HEIGHT * 4, WIDTH * 4, 3), 60, np.uint8)
        rows = []
        for cls, corners in objects:
            cv2.fillPoly(
                image, [np.rint(corners * 4 * 16 - 8).astype(np.int32)], COLOURS[cls], shift=4
            )
            middle = corners.mean(0)
            dots = middle + 0.5 * (corners - middle)
            if task == "pose":
                for dot, colour in zip(dots, DOTS, strict=True):
                    cv2.circle(image, tuple(np.rint(dot * 4).astype(int).tolist()), 10, colour, -1)
            rows.append(row(task, cls, corners, dots))
        small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), small[:, :, ::-1])
        (folder / "labels" / f"{number}.txt").write_text("\n".join(rows), encoding="utf-8")
    keypoints = f"kpt_shape: [4, 3]\nflip_idx: {list(MIRRORED)}\n" if task == "pose" else ""
    data = f"train: images\nval: images\nnames: [red, green, blue]\n{keypoints}"
    (folder / "data.yaml").write_text(data, encoding="utf-8")
    return load_view(folder / "data.yaml", View(split="train"), 0, None, task)


def row(task: str, cls: int, corners: Points, dots: Points) -> str:
    size = np.array([WIDTH, HEIGHT])
    if task != "pose":
        return " ".join(map(str, (cls, *(corners / size).ravel())))
    low, high = corners.min(0) / size, corners.max(0) / size
    places = np.concatenate((dots / size, [[1], [2], [1], [2]]), axis=1)
    return " ".join(map(str, (cls, *(low + high) / 2, *(high - low), *places.ravel())))


def drawn_crops(folder: Path) -> Dataset:
    """Six images of the classes a, b and c; each has one shade, 40 times its number."""
    for number in range(IMAGES):
        file = folder / "train" / "cab"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((40, 64, 3), 40 * number, np.uint8))
    return load_view(folder, View(split="train"), 0, None, "classify")
