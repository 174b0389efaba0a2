"""How an image gets the size of the input, as the contract says it, is how it is done."""

from __future__ import annotations

from math import floor

import numpy as np
from PIL import Image

from yolodeploy.bundle.app_contract import _letterbox
from yolodeploy.data.images import letterbox
from yolodeploy.system import ImageShape


def test_the_rule_of_cropped_images_gives_their_pixels() -> None:
    """Written from the sentences of the contract alone."""
    contract = _letterbox(ImageShape(64, 96, fit="crop"))
    assert contract["rule"].startswith("input_size is [H, W]; if W * height >= H * width, resize to W x floor(W * height / width), else")  # fmt: skip
    assert "fill" not in contract
    high, wide = 64, 96
    for height, width in ((50, 71), (200, 90), (30, 400), (64, 96)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        if wide * height >= high * width:
            size = wide, floor(wide * height / width)
        else:
            size = floor(high * width / height), high
        left, top = -round((size[0] - wide) / 2), -round((size[1] - high) / 2)
        resized = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        found = letterbox(image, ImageShape(high, wide, fit="crop"))
        assert np.array_equal(found.pixels, resized[-top:, -left:][:high, :wide])
        assert (found.left, found.top) == (left, top)
        assert contract["inverse"] == "x = (x_cropped - left) * width / new width; y = (y_cropped - top) * height / new height"  # fmt: skip
        assert found.scale == (size[0] / width, size[1] / height)
