"""Decode and letterbox images, one at a time.

As Ultralytics does for inputs of one fixed size: scale with bilinear interpolation until one side fits,
centre, and fill the border with grey 114. Other models want the borders right and below, or none; those that
classify get the middle of the image.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from yolodeploy.data.decoding import MIN_SIDE, decode_heif, why_not
from yolodeploy.errors import DataError
from yolodeploy.system import GREY, IMAGE_BYTES, RGB, ImageShape, read_plain, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_PIXELS = 1 << 26
_JPEG, _MARKER = b"\xff\xd8", re.compile(rb"\xff+[\xc0-\xcf\xd8-\xfe]")
_SCAN, _END, _START = 0xDA, 0xD9, 0xD8  # only the start has no length
_MAX_SCANS, _MAX_MARKERS = 100, 10_000  # encoders write about ten scans
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(_MAX_PIXELS))  # read when cv2 is loaded
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a message says what is wrong with an image

Pixels: TypeAlias = "NDArray[np.uint8]"


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an OSError into a DataError that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class Letterboxed:
    """An image of the model's input size, and how it was made from the original.

    `pixels` is uint8 `[height, width, channels]` of the input. A point of the original, in pixels, lies at
    `point * scale + (left, top)`, where `scale` is that of x and of y: the same but for stretched and cropped
    images. Of a cropped image `left` and `top` are at most 0. `width` and `height` are the original's.
    """

    pixels: Pixels
    scale: tuple[float, float]
    left: int
    top: int
    width: int
    height: int


def read_image(path: Path, channels: int = RGB) -> Pixels:
    """Decode an image file to uint8 `[H, W, channels]`, RGB or grey, turned upright by its EXIF tag."""
    import cv2
    import numpy as np

    with readable(path):
        raw = read_plain(path, IMAGE_BYTES)
    if raw.startswith(_JPEG) and _count_scans(raw) > _MAX_SCANS:
        raise DataError(
            f"{shown(path)}: has more than {_MAX_SCANS} scans, and each takes as long to decode as the image "
            "itself. Save it again, or remove it from the split."
        )
    image = _decode(raw, channels)
    if image is None:
        image = decode_heif(raw, _MAX_PIXELS, channels)
    if image is None:
        raise DataError(f"{shown(path)}: {why_not(raw, _MAX_PIXELS)}")
    if min(image.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"{shown(path)}: has {image.shape[1]} x {image.shape[0]} pixels; each side must have at least "
            f"{MIN_SIDE}. Remove it from the split."
        )
    if channels == GREY:
        return np.ascontiguousarray(image[:, :, None])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _count_scans(raw: bytes) -> int:
    """Count a JPEG's scans up to its end marker, after which anything may follow (ITU T.81, annex B)."""
    position, count = len(_JPEG), 0
    for _ in range(_MAX_MARKERS):
        found = _MARKER.search(raw, position)
        kind = raw[found.end() - 1] if found else _END
        if found is None or kind == _END:
            return count
        count += kind == _SCAN
        length = int.from_bytes(raw[found.end() : found.end() + 2], "big")
        position = found.end() + (0 if kind == _START else length)
    return _MAX_MARKERS


def _decode(raw: bytes, channels: int) -> Pixels | None:
    import cv2
    import numpy as np

    try:
        # grey as OpenCV decodes it, which Ultralytics trains on; not computed from the colours
        how = cv2.IMREAD_GRAYSCALE if channels == GREY else cv2.IMREAD_COLOR
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), how)
    except cv2.error:
        return None
    return None if image is None else image.astype(np.uint8, copy=False)


def letterbox(image: Pixels, imgsz: ImageShape) -> Letterboxed:
    """Fit uint8 `[H, W, channels]` into an input of this size, as its `fit` says."""
    import cv2
    import numpy as np

    if imgsz.fit == "crop":
        return _crop(image, imgsz)
    height, width = image.shape[:2]
    scale = imgsz.width / width, imgsz.height / height
    if imgsz.fit != "stretch":
        scale = (min(scale),) * 2
    new_width, new_height = max(1, round(width * scale[0])), max(1, round(height * scale[1]))
    if (new_width, new_height) != (width, height):
        resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        image = resized.astype(np.uint8, copy=False).reshape(
            new_height, new_width, -1
        )  # or grey loses its axis
    left, top = (imgsz.width - new_width) // 2, (imgsz.height - new_height) // 2
    if imgsz.fit == "top-left":
        left = top = 0
    canvas = np.full((imgsz.height, imgsz.width, imgsz.channels), imgsz.fill, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = image
    return Letterboxed(canvas, scale, left, top, width, height)


def _crop(image: Pixels, imgsz: ImageShape) -> Letterboxed:
    """Scale until the image covers the input, and take the middle: Ultralytics' and torchvision's for classification.

    Of a square input the shorter side of the image becomes its side. Of another, the side that then leaves none of
    the input empty fits. The other side is rounded down, the offset of the middle to even. Pillow's filter
    averages all pixels that a pixel covers (torchvision: `antialias`). Of an image so long that the scaled one would be
    too large only the middle is scaled, which may change a pixel by 1.
    """
    import numpy as np
    from PIL import Image

    height, width = image.shape[:2]
    if imgsz.width * height >= imgsz.height * width:
        across, down = imgsz.width, int(imgsz.width * height / width)
    else:
        across, down = int(imgsz.height * width / height), imgsz.height
    left, top = round((across - imgsz.width) / 2), round((down - imgsz.height) / 2)
    picture = Image.fromarray(image if imgsz.channels == RGB else image[:, :, 0])
    scale = across / width, down / height
    middle = (left, top, left + imgsz.width, top + imgsz.height)
    if across * down <= _MAX_PIXELS:
        picture = picture.resize((across, down), Image.Resampling.BILINEAR).crop(middle)
    else:
        part = tuple(edge / scale[place % 2] for place, edge in enumerate(middle))
        picture = picture.resize((imgsz.width, imgsz.height), Image.Resampling.BILINEAR, part)
    pixels = np.array(picture).reshape(imgsz.height, imgsz.width, imgsz.channels)
    return Letterboxed(pixels, scale, -left, -top, width, height)


def letterboxed_file(path: Path, imgsz: ImageShape) -> Letterboxed:
    """Read and letterbox an image file."""
    return letterbox(read_image(path, imgsz.channels), imgsz)


def to_tensor(pixels: Pixels) -> NDArray[np.float32]:
    """uint8 `[H, W, channels]` to float32 `[1, channels, H, W]` in 0..1."""
    import numpy as np

    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    return planes.astype(np.float32) / np.float32(255)
