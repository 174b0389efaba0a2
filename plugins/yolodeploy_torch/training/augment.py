"""Vary a training image: mosaic, one affine warp, mirroring, colour; what is labelled follows.

All random numbers are drawn in a fixed order, whatever the strengths are. Geometry is in pixels of the
letterboxed image, with pixel centres at halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yolodeploy.data import Pixels
from yolodeploy.system import FILL, GREY
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training.shapes import Shapes, joined

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

_LEAST_AREA = 0.1  # share of a box that must remain in the image
_LEAST_SIDE = 2.0  # px
_HUES = 180  # values of hue in a byte, as OpenCV has them


@dataclass(frozen=True)
class Sample:
    """A letterboxed image and its objects.

    `pixels` uint8 [h, w, channels]; `cls` int64 [n]; `corners` float32 [n, 4] left, top, right, bottom in px;
    `content` left, top, right, bottom of the image within its grey border; `shapes` what is labelled beside boxes.
    """

    pixels: Pixels
    cls: NDArray[np.int64]
    corners: Floats
    content: tuple[int, int, int, int]
    shapes: Shapes | None = None


@dataclass(frozen=True)
class _Tile:
    """An image of a mosaic, and where its upper left corner goes."""

    sample: Sample
    left: float
    top: float


def augment_sample(
    sample: Sample,
    other: Callable[[int], Sample],
    count: int,
    augment: Augment,
    rng: np.random.Generator,
    fill: int | None = FILL,
) -> Sample:
    """Vary a sample; a mosaic takes three of the `count` samples that `other` gives by number.

    What no image covers becomes the grey `fill`, or, if that is None, what a mirror at the edge of the image shows.
    """
    draws, partners = rng.random(12), rng.integers(count, size=3)
    height, width = sample.pixels.shape[:2]
    size = np.array([width, height])
    tiles = [_Tile(sample, 0, 0)]
    if draws[0] < augment.mosaic:
        tiles = _mosaic([sample, *(other(int(i)) for i in partners)], draws[1:3])
    warp = _warp_matrix(size, augment, draws[3:9])
    if len(tiles) > 1 or not np.array_equal(warp, np.eye(3)):
        sample = _compose(tiles, warp, size, fill)
    return replace(sample, pixels=_vary_colours(sample.pixels, augment, draws[9:]))


def _mosaic(samples: list[Sample], draws: Matrix) -> list[_Tile]:
    """Place four images around a point in the middle half of the image, without their grey borders."""
    size = np.array(samples[0].pixels.shape[1::-1])
    x, y = (round(float(draw)) for draw in size * (0.25 + draws / 2))
    tiles = []
    for number, sample in enumerate(samples):
        left, top, right, bottom = sample.content
        tiles.append(
            _Tile(sample, x - (left if number % 2 else right), y - (top if number > 1 else bottom))
        )
    return tiles


def _warp_matrix(size: NDArray[np.int64], augment: Augment, draws: Matrix) -> Matrix:
    """The matrix [3, 3] that scales and rotates around the middle, shifts and mirrors points in px."""
    zoom = 1 + augment.scale * (2 * draws[0] - 1)
    angle = math.radians(augment.rotate) * (2 * draws[1] - 1)
    shift = augment.translate * size * (2 * draws[2:4] - 1)
    mirror = np.where(draws[4:6] < (augment.flip, augment.flip_vertical), -1.0, 1.0)
    turned = zoom * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    warp = np.eye(3)
    warp[:2, :2] = mirror[:, None] * turned
    middle = size / 2
    warp[:2, 2] = middle + shift - warp[:2, :2] @ middle
    return warp


def _compose(tiles: list[_Tile], warp: Matrix, size: NDArray[np.int64], fill: int | None) -> Sample:
    """Warp the tiles onto grey; objects that end up tiny or mostly outside are dropped."""
    width, height = map(int, size)
    whole = 0, 0, width, height
    border = cv2.BORDER_REFLECT_101 if fill is None else cv2.BORDER_TRANSPARENT
    pixels = np.full((height, width, tiles[0].sample.pixels.shape[2]), fill or 0, np.uint8)
    classes, corners, shapes = [], [], list[Shapes]()
    for tile in tiles:
        sample, place = tile.sample, warp @ _translation(tile.left, tile.top)
        left, top, right, bottom = whole if len(tiles) == 1 else sample.content
        part = sample.pixels[top:bottom, left:right]
        _paint(pixels, part, place @ _translation(left, top), border)
        moved, visible, shape = _moved(sample, place, size)
        stays = _visible_enough(moved, visible)
        classes.append(sample.cls[stays])
        corners.append(visible[stays])
        shapes += [shape.taken(stays)] if shape else []
    together = joined(shapes) if shapes else None
    return Sample(pixels, np.concatenate(classes), np.concatenate(corners), whole, together)


def _moved(
    sample: Sample, place: Matrix, size: NDArray[np.int64]
) -> tuple[Floats, Floats, Shapes | None]:
    """Where the boxes of a sample go, what is visible of them, and the shapes as far as they are.

    The box of an outline is the one around what is left of it.
    """
    edges = np.tile(size, 2).astype(np.float32)
    if sample.shapes is None or sample.shapes.seen is not None:
        moved = _warp_boxes(sample.corners, place)
        shapes = sample.shapes.warped(place).cut(size) if sample.shapes else None
        return moved, np.clip(moved, 0, edges), shapes
    warped = sample.shapes.warped(place)
    left = warped.cut(size)
    return warped.bounds(), np.clip(left.bounds(), 0, edges), left


def _paint(canvas: Pixels, pixels: Pixels, place: Matrix, border: int) -> None:
    centred = _translation(-0.5, -0.5) @ place @ _translation(0.5, 0.5)
    cv2.warpAffine(
        pixels,
        centred[:2],
        canvas.shape[1::-1],
        dst=canvas,
        flags=cv2.INTER_LINEAR,
        borderMode=border,
    )


def _translation(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def _warp_boxes(corners: Floats, place: Matrix) -> Floats:
    """The upright boxes around warped ones."""
    points = corners[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ place[:2, :2].T + place[:2, 2]
    return np.concatenate((points.min(1), points.max(1)), axis=1).astype(np.float32)


def _visible_enough(moved: Floats, visible: Floats) -> NDArray[np.bool_]:
    whole, left = moved[:, 2:] - moved[:, :2], visible[:, 2:] - visible[:, :2]
    enough = left.prod(1) >= _LEAST_AREA * whole.prod(1)
    stays: NDArray[np.bool_] = enough & (left.min(1) >= _LEAST_SIDE)
    return stays


def _vary_colours(pixels: Pixels, augment: Augment, draws: Matrix) -> Pixels:
    """Shift the hue, and scale saturation and brightness; a grey image has only the last."""
    strength = np.array([augment.hue, augment.saturation, augment.brightness])
    if not strength.any():
        return pixels
    turn, *gains = strength * (2 * draws - 1)
    steps = np.arange(256)
    if pixels.shape[2] == GREY:
        return _scaled(steps, gains[1])[pixels]
    tables = [(steps + round(_HUES * turn)) % _HUES]
    tables += [_scaled(steps, gain) for gain in gains]
    varied = cv2.LUT(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV), np.stack(tables, axis=1)[None].astype(np.uint8)
    )
    return cv2.cvtColor(varied, cv2.COLOR_HSV2RGB).astype(np.uint8, copy=False)


def _scaled(steps: NDArray[np.int64], gain: float) -> Pixels:
    """What becomes of every value of a byte."""
    scaled: Pixels = np.clip(np.rint(steps * (1 + gain)), 0, 255).astype(np.uint8)
    return scaled
