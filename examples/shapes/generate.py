"""Draw the shapes task: five classes on cluttered, textured backgrounds, in Ultralytics' layout.

    python examples/shapes/generate.py OUT --train N --val N --size 160 --seed 0

Image ``i`` of a split depends on (seed, split, i) and on nothing else: any part can be drawn alone.
Lengths in this file are pixels of a 160-pixel image; they grow with ``--size``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("circle", "triangle", "square", "pentagon", "star")
CORNERS = (0, 3, 4, 5, 5)
SPLITS = ("train", "val")
JPEG_QUALITY = 92

RADIUS = (7.0, 36.5)  # of the circle through an object's corners
CONTRAST = (42.0, 120.0)  # grey levels between an object's colour and what is behind it
MAX_HIDDEN = 0.6  # an object hidden more than this has no label
STAR_INNER = 0.45  # inner radius of a star, as a fraction of its radius

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One image, uint8 RGB [size, size, 3], and its labels, float64 [n, 5].

    A label is class, centre x, centre y, width and height; all but the class are parts of the size.
    """

    image: Image
    labels: Floats


@dataclass(frozen=True)
class Thing:
    """Something to paint: an object of class ``kind``, or clutter where ``kind`` is None."""

    kind: int | None
    x: float
    y: float
    radius: float
    turn: float


def draw(split: str, index: int, size: int = 160, seed: int = 0) -> Sample:
    """Draw image ``index`` of ``split``; later things cover earlier ones."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = background(rng, size)
    things = scatter(rng, size)
    top = np.full((size, size), -1)  # the thing seen at each pixel
    areas = []
    for number, thing in enumerate(things):
        cover = np.clip(inside(rng, thing, size) + 0.5, 0.0, 1.0)
        paint(rng, canvas, cover)
        top[cover > 0.5] = number
        areas.append(np.count_nonzero(cover > 0.5))
    canvas += rng.normal(0.0, rng.uniform(1.0, 7.0), canvas.shape)
    seen = [np.count_nonzero(top == number) for number in range(len(things))]
    rows = [
        label(thing, size)
        for thing, area, visible in zip(things, areas, seen, strict=True)
        if thing.kind is not None and visible >= (1.0 - MAX_HIDDEN) * area
    ]
    return Sample(
        np.clip(np.rint(canvas), 0, 255).astype(np.uint8), np.array(rows, np.float64).reshape(-1, 5)
    )


def scatter(rng: np.random.Generator, size: int) -> list[Thing]:
    """Place one to six objects and up to three pieces of clutter, in painting order.

    Objects overlap at their rims only: eight places are tried, then the object is left out.
    """
    kinds: list[int | None] = [
        int(kind) for kind in rng.integers(len(NAMES), size=rng.integers(1, 7))
    ]
    kinds += [None] * int(rng.integers(0, 4))
    things: list[Thing] = []
    for position in rng.permutation(len(kinds)):
        for _ in range(8):
            thing = place(rng, kinds[position], size)
            if thing.kind is None or not any(crowds(thing, other) for other in things):
                things.append(thing)
                break
    return things


def place(rng: np.random.Generator, kind: int | None, size: int) -> Thing:
    """Choose radius (log-uniform), turn and centre; the edge may cut off a quarter of the width."""
    radius = float(np.exp(rng.uniform(*np.log(RADIUS)))) * size / 160
    x, y = rng.uniform(radius / 2, size - radius / 2, 2)
    return Thing(kind, float(x), float(y), radius, float(rng.uniform(0, 2 * np.pi)))


def crowds(thing: Thing, other: Thing) -> bool:
    """Whether two objects would overlap by over 30 % of their radii; clutter may lie anywhere."""
    near = np.hypot(thing.x - other.x, thing.y - other.y) < 0.7 * (thing.radius + other.radius)
    return other.kind is not None and bool(near)


def label(thing: Thing, size: int) -> Floats:
    """Return the label [5] of the whole object, cut off at the image's edge."""
    angles = np.arange(4) * np.pi / 2  # of the outermost points of a circle
    if thing.kind:
        angles = thing.turn + 2 * np.pi * np.arange(CORNERS[thing.kind]) / CORNERS[thing.kind]
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * thing.radius + (thing.x, thing.y)
    low, high = np.clip([points.min(0), points.max(0)], 0, size) / size
    return np.array([thing.kind, *(low + high) / 2, *(high - low)])


def inside(rng: np.random.Generator, thing: Thing, size: int) -> Floats:
    """Return each pixel's distance [size, size] to the outline, in pixels, positive inside."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    x, y, radius = columns - thing.x, rows - thing.y, thing.radius
    if thing.kind is None:
        along = x * np.cos(thing.turn) + y * np.sin(thing.turn)
        across = y * np.cos(thing.turn) - x * np.sin(thing.turn)
        return CLUTTER[rng.integers(len(CLUTTER))](along, across, radius)
    if thing.kind == 0:
        return np.asarray(radius - np.hypot(x, y))
    middle = np.cos(np.pi / CORNERS[thing.kind])
    return spiked(
        x, y, thing, CORNERS[thing.kind], STAR_INNER if thing.kind == 4 else float(middle)
    )


def spiked(x: Floats, y: Floats, thing: Thing, corners: int, inner: float) -> Floats:
    """Return the distance to the outline of a regular polygon or star, positive inside.

    Every point is mirrored into one slice, from a corner at angle 0 to angle pi / corners. There
    the outline is one straight edge; it ends at ``inner`` times the radius, which is the middle of
    a polygon's side or the notch of a star.
    """
    half = np.pi / corners
    angle = np.abs((np.arctan2(y, x) - thing.turn + half) % (2 * half) - half)
    distance = np.hypot(x, y)
    edge_x = thing.radius * (inner * np.cos(half) - 1)
    edge_y = thing.radius * inner * np.sin(half)
    from_x, from_y = distance * np.cos(angle) - thing.radius, distance * np.sin(angle)
    return np.asarray((edge_x * from_y - edge_y * from_x) / np.hypot(edge_x, edge_y))


def bar(along: Floats, across: Floats, radius: float) -> Floats:
    """A thin rectangle, eight times as long as wide."""
    return np.minimum(radius - np.abs(along), radius / 8 - np.abs(across))


def ring(along: Floats, across: Floats, radius: float) -> Floats:
    """A hollow circle."""
    distance = np.hypot(along, across)
    return np.minimum(radius - distance, distance - 0.7 * radius)


def cross(along: Floats, across: Floats, radius: float) -> Floats:
    """Two bars at right angles."""
    return np.maximum(bar(along, across, radius), bar(across, along, radius))


def crescent(along: Floats, across: Floats, radius: float) -> Floats:
    """A circle with a bite of its own size."""
    return np.minimum(
        radius - np.hypot(along, across), np.hypot(along - 0.7 * radius, across) - radius
    )


CLUTTER: tuple[Callable[[Floats, Floats, float], Floats], ...] = (bar, ring, cross, crescent)


def background(rng: np.random.Generator, size: int) -> Floats:
    """Return [size, size, 3] coloured noise in four octaves, in half of the images striped."""
    canvas = np.zeros((size, size, 3)) + rng.uniform(40.0, 215.0, 3)
    for cells in (2, 5, 13, 40):
        canvas += noise(rng, size, cells)[..., None] * rng.normal(0.0, 20.0, 3)
    if rng.random() < 0.5:
        canvas += stripes(rng, size, period=(4.0, 24.0), height=(4.0, 16.0))
    return canvas


def noise(rng: np.random.Generator, size: int, cells: int) -> Floats:
    """Return [size, size] values in -0.5..0.5, interpolated on a grid of cells."""
    grid = rng.random((cells + 1, cells + 1)) - 0.5
    place = np.linspace(0, cells, size)
    low = np.minimum(place.astype(int), cells - 1)
    part = (place - low)[:, None]
    rows = grid[low] * (1 - part) + grid[low + 1] * part
    return np.asarray(rows[:, low] * (1 - part.T) + rows[:, low + 1] * part.T)


def ramp(rng: np.random.Generator, size: int) -> Floats:
    """Return the coordinate [size, size] along a random direction, in pixels."""
    turn = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.cos(turn) * np.arange(size) + np.sin(turn) * np.arange(size)[:, None])


def stripes(
    rng: np.random.Generator, size: int, period: tuple[float, float], height: tuple[float, float]
) -> Floats:
    """Return a wave [size, size, 1] in a random direction."""
    wave = np.sin(ramp(rng, size) * 2 * np.pi / (rng.uniform(*period) * size / 160))
    return np.asarray(wave * rng.uniform(*height))[..., None]


def paint(rng: np.random.Generator, canvas: Floats, cover: Floats) -> None:
    """Blend a flat, shaded or striped fill into ``canvas`` [h, w, 3] by ``cover`` [h, w], 0..1."""
    hidden = canvas[cover > 0.5]
    behind = hidden.mean(0) if len(hidden) else canvas[0, 0]
    fill = np.zeros_like(canvas) + colour(rng, behind)
    match rng.integers(3):
        case 1:
            shade = ramp(rng, len(cover))
            slope = (shade - shade[cover > 0].mean()) / len(cover)
            fill += slope[..., None] * rng.normal(0.0, 60.0, 3)
        case 2:
            fill += stripes(rng, len(cover), period=(3.0, 10.0), height=(5.0, 18.0))
    alpha = (cover * rng.uniform(0.85, 1.0))[..., None]
    canvas += (fill - canvas) * alpha


def colour(rng: np.random.Generator, behind: Floats) -> Floats:
    """Return a colour [3] within CONTRAST of ``behind``, turned back where it leaves 0..255."""
    direction = rng.normal(size=3)
    step = direction / np.linalg.norm(direction) * rng.uniform(*CONTRAST)
    outside = (behind + step < 0) | (behind + step > 255)
    return np.asarray(np.where(outside, behind - step, behind + step))


def to_jpeg(image: Image) -> bytes:
    """Encode RGB [h, w, 3]."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def from_jpeg(data: bytes) -> Image:
    """Decode to uint8 RGB [h, w, 3]."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def write_split(out: Path, split: str, count: int, size: int, seed: int) -> None:
    """Write ``count`` images and label files of ``split`` below ``out``."""
    images, labels = out / "images" / split, out / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        sample = draw(split, index, size, seed)
        (images / f"{index:05d}.jpg").write_bytes(to_jpeg(sample.image))
        (labels / f"{index:05d}.txt").write_text(label_text(sample.labels))


def label_text(labels: Floats) -> str:
    """Write labels [n, 5] as lines of ``class x y width height``."""
    return "".join(f"{int(kind)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for kind, x, y, w, h in labels)


def data_yaml() -> str:
    """Return the data set's description; having no ``path``, its folders lie beside the file."""
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    return f"train: images/train\nval: images/val\nnames:\n{names}"


def main() -> None:
    """Write both splits and data.yaml."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=64, help="images in the train split")
    parser.add_argument("--val", type=int, default=200, help="images in the val split")
    parser.add_argument("--size", type=int, default=160, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for split, count in (("train", options.train), ("val", options.val)):
        write_split(options.out, split, count, options.size, options.seed)
    (options.out / "data.yaml").write_text(data_yaml())


if __name__ == "__main__":
    main()
