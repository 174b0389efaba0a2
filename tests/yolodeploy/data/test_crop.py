"""The images of classification are scaled and cropped as Ultralytics does, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from yolodeploy.data.images import letterbox
from yolodeploy.system import ImageShape


def _cropped(height: int, width: int, channels: int = 3) -> ImageShape:
    return ImageShape(height, width, channels, fit="crop")


def test_cropped_pixels_are_those_of_ultralytics() -> None:
    """Wide, high and square images, smaller and larger than the input, odd and even offsets."""
    augment = pytest.importorskip(
        "ultralytics.data.augment", reason="pip install 'yolodeploy[train]'"
    )
    from PIL import Image

    random = np.random.default_rng(0)
    sizes = [*random.integers(10, 400, (40, 2)).tolist(), [10, 399], [301, 10], [64, 64], [99, 99]]
    for number, (height, width) in enumerate(sizes):
        side = (64, 96, 65, 224)[number % 4]
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        found = letterbox(image, _cropped(side, side))
        wanted = augment.classify_transforms(size=side)(Image.fromarray(image))
        theirs = (wanted.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        assert np.array_equal(found.pixels, theirs), (height, width, side)


def test_an_input_that_is_not_square_is_covered() -> None:
    """A horizontal ramp: what the middle must show follows from the place of each pixel."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (50, 200, 3))
    found = letterbox(np.ascontiguousarray(ramp), _cropped(50, 100))
    assert found.pixels.shape == (50, 100, 3)
    assert np.array_equal(found.pixels[0, :, 0], np.arange(50, 150))
    assert (found.scale, found.left, found.top) == ((1, 1), -50, 0)
    high = letterbox(np.ascontiguousarray(ramp), _cropped(100, 50))
    assert (high.scale, high.left, high.top) == ((2, 2), -175, 0)
    assert 86 <= high.pixels[0, 0, 0] <= 88  # 175 / 2
    wide = letterbox(np.ascontiguousarray(ramp), _cropped(50, 250))
    assert wide.scale == (250 / 200, 62 / 50)
    assert (wide.left, wide.top) == (0, -6)


def test_grey_images_keep_their_channel() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 60, 1), np.uint8)
    grey = letterbox(image, _cropped(32, 32, channels=1)).pixels
    assert grey.shape == (32, 32, 1)
    colours = letterbox(image.repeat(3, 2), _cropped(32, 32)).pixels
    assert np.array_equal(grey[:, :, 0], colours[:, :, 0])


def test_of_a_very_long_image_only_the_middle_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 x 60,000 pixels would become 1.3 million x 224; the middle is the same up to rounding."""
    image = np.random.default_rng(2).integers(0, 256, (10, 999, 3), np.uint8)
    whole = letterbox(image, _cropped(64, 64))
    monkeypatch.setattr("yolodeploy.data.images._MAX_PIXELS", 10_000)
    part = letterbox(image, _cropped(64, 64))
    assert abs(part.pixels.astype(int) - whole.pixels).max() <= 1
    assert (part.left, part.top, part.scale) == (whole.left, whole.top, whole.scale)
