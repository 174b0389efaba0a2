"""Formats that OpenCV cannot decode, and why an image cannot be decoded."""

from __future__ import annotations

import functools
import importlib.util
import re
import struct
from typing import TYPE_CHECKING, Any

from yolodeploy.system import GREY, RGB, quotable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEIF_SUFFIXES: frozenset[str] = frozenset({".heic", ".heif"})
HEIF_REMEDY = "Install the extra yolodeploy[heif] to read it."
EMPTY = "the image is empty. Remove it or restore the file."
MIN_SIDE = 10  # pixels; Ultralytics leaves out smaller images
_HEIF_LIBRARIES = ("pi_heif", "pillow_heif")  # one library, without and with an encoder
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_FORMATS = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"), (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"), (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"GIF8", "GIF"),
)  # fmt: skip
_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..\x08(....)", re.DOTALL)


@functools.cache
def heif_library() -> str | None:
    """The installed library that reads HEIC and HEIF; None if there is none."""
    return next((name for name in _HEIF_LIBRARIES if importlib.util.find_spec(name)), None)


def decode_heif(raw: bytes, max_pixels: int, channels: int = RGB) -> NDArray[np.uint8] | None:
    """Decode a HEIC or HEIF file to uint8 BGR `[H, W, 3]` or grey `[H, W]`, upright.

    Grey is computed from the colours, as Ultralytics does. None if the file is not HEIF or cannot be decoded.
    """
    name = heif_library() if _format(raw) == "HEIF" else None
    if name is None:
        return None
    import cv2
    import numpy as np

    library: Any = importlib.import_module(name)
    try:
        image = library.open_heif(raw, convert_hdr_to_8bit=True)
        if image.size[0] * image.size[1] > max_pixels:
            return None
        pixels = np.asarray(image)
    except (ValueError, OSError, EOFError, RuntimeError, SyntaxError):
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1).astype(np.uint8, copy=False)
    if pixels.shape[2] < 3:  # grey, perhaps with transparency
        pixels = pixels[:, :, :1].repeat(3, axis=2)
    colours = np.ascontiguousarray(pixels[:, :, 2::-1])
    if channels != GREY:
        return colours
    return cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)


def why_not(raw: bytes, max_pixels: int) -> str:
    """Say why the bytes of a file cannot be decoded as an image, and what to do."""
    if not raw:
        return EMPTY
    if raw.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the image. Run `git lfs pull`."
    kind = _format(raw)
    if kind is None:
        return f"is not an image: it begins with `{_beginning(raw)}`. Remove it from the split."
    if kind == "HEIF" and heif_library() is None:
        return f"is a HEIC image. {HEIF_REMEDY}"
    width, height = _size(raw, kind)
    if width * height > max_pixels:
        return (
            f"has {width} x {height} pixels; at most {max_pixels / 1e6:.0f} million are decoded. Make it "
            "smaller, or remove it from the split."
        )
    truncated = f"is truncated: the {kind} file ends too early"
    damaged = f"is a damaged {kind} file, which cannot be decoded"
    cause = truncated if _is_truncated(raw, kind) else damaged
    return f"{cause}. Restore it, or remove it from the split."


def _format(raw: bytes) -> str | None:
    if raw[4:8] == b"ftyp":
        brands = raw[8 : min(int.from_bytes(raw[:4], "big"), 256)]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIF" if any(brand in brands for brand in _HEIF_BRANDS) else None
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        return "WebP"
    return next((name for magic, name in _FORMATS if raw.startswith(magic)), None)


def _size(raw: bytes, kind: str) -> tuple[int, int]:
    """Width and height in pixels where the format says so at a known place, else zeros."""
    frame = _FRAME.search(raw) if kind == "JPEG" else None
    places = {
        "PNG": (16 if raw[12:16] == b"IHDR" else len(raw), ">II"),
        "BMP": (18, "<ii"),
        "JPEG": (frame.start(1) if frame else len(raw), ">HH"),
        "JPEG 2000": (raw.find(b"ihdr") + 4, ">II"),
        "AVIF": (raw.find(b"ispe") + 8, ">II"),
        "HEIF": (raw.find(b"ispe") + 8, ">II"),
    }
    position, form = places.get(kind, (len(raw), ">II"))
    if position + struct.calcsize(form) > len(raw):
        return 0, 0
    first, second = map(abs, struct.unpack_from(form, raw, position))
    return (second, first) if kind.startswith("JPEG") else (first, second)


def _is_truncated(raw: bytes, kind: str) -> bool:
    """Whether the file ends before its own end mark, or before the length that it states."""
    if kind == "JPEG":  # a thumbnail has an end of its own, before the image's last scan
        return raw.rfind(b"\xff\xd9") <= raw.rfind(b"\xff\xda")
    if kind == "PNG":
        return len(raw) < 33 or (raw[12:16] == b"IHDR" and b"IEND" not in raw[-12:])
    if kind in ("WebP", "BMP"):
        stated = int.from_bytes(raw[4:8] if kind == "WebP" else raw[2:6], "little")
        return len(raw) < stated + (8 if kind == "WebP" else 0)
    if kind == "TIFF":
        order: Any = "little" if raw.startswith(b"II") else "big"
        directory = int.from_bytes(raw[4:8], order)
        count = int.from_bytes(raw[directory : directory + 2], order)
        return len(raw) < directory + 2 + 12 * count + 4 or not count
    return _boxes_end_late(raw)


def _boxes_end_late(raw: bytes) -> bool:
    """Whether a box of an ISO file (AVIF, HEIF, JPEG 2000) reaches beyond the file's end."""
    position = 0
    while position + 8 <= len(raw):
        size = int.from_bytes(raw[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(raw[position + 8 : position + 16], "big")
        if size == 0:  # to the end of the file, which a code stream marks
            return raw[position + 4 : position + 8] == b"jp2c" and not raw.endswith(b"\xff\xd9")
        if size < 8:
            return False
        position += size
    return position != len(raw)


def _beginning(raw: bytes) -> str:
    return quotable(raw[:24].decode("utf-8", "replace").replace("\ufffd", "?"), 24)
