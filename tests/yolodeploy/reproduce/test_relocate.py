"""A copy of a data set is the same data set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolodeploy.data import load_view
from yolodeploy.recipe import View
from yolodeploy.reproduce.relocate import _copy_classes
from yolodeploy.system import StatCache


def test_class_folders_of_a_model_whose_names_make_no_folders(tmp_path: Path) -> None:
    """As of ImageNet, where two classes are a crane; images of other classes can be measured."""
    names = ("crane", "dog", "crane", "cat/kitten", "owl", "..")
    for number, name in enumerate(("dog", "owl", "dog")):
        (tmp_path / "set/val" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), 40 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f"set/val/{name}/{number}.png"), pixels)
    view = load_view(tmp_path / "set", View(), 0, task="classify").for_model(names)
    _copy_classes(view, tmp_path / "copy" / "evaluation")
    copy = load_view(tmp_path / "copy", View(split="evaluation"), 0, task="classify")
    cache = StatCache(tmp_path / "cache")
    assert copy.for_model(names).digest(cache) == view.digest(cache)
    assert copy.names == ("dog", "owl")
