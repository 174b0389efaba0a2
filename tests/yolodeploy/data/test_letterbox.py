"""Letterboxing is that of Ultralytics, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from yolodeploy.data.images import letterbox
from yolodeploy.system import ImageShape


def test_letterboxed_pixels_are_those_of_ultralytics() -> None:
    """Odd and even borders, wide and high, larger and smaller than the input, squares among them."""
    augment = pytest.importorskip(
        "ultralytics.data.augment", reason="pip install 'yolodeploy[train]'"
    )
    random = np.random.default_rng(0)
    for number in range(60):
        height, width = random.integers(5, 400, 2)
        shape = ImageShape(*(32 * random.integers(1, 9, 2)).tolist())
        if number % 3 == 0:
            shape = ImageShape.square(shape.width)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        wanted = augment.LetterBox(new_shape=(shape.height, shape.width))(image=image)
        found = letterbox(image, shape)
        assert np.array_equal(found.pixels, wanted), (height, width, shape)
        assert found.scale == (min(shape.height / height, shape.width / width),) * 2
