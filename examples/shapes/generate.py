"""Draw the shapes task: five classes on cluttered, textured backgrounds, in Ultralytics' layout.

    python examples/shapes/generate.py OUT --task detect --train N --val N --size 160 --seed 0

The images of the tasks detect, segment and pose are the same; those of obb show stretched objects,
and those of classify are cut out of the same scenes, one for each object that can be seen well.
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
from outlines import (
    CORNERS,
    FLIP,
    HIDDEN,
    OUTSIDE,
    STAR,
    STAR_INNER,
    VISIBLE,
    Floats,
    Thing,
    clip,
    extremes,
    outline,
    rotated_box,
    squeeze,
    tips,
)

TASKS = ("detect", "segment", "pose", "obb", "classify")
NAMES = ("circle", "triangle", "square", "pentagon", "star")
SPLITS = ("train", "val")
JPEG_QUALITY = 92

RADIUS = (7.0, 36.5)  # of the circle through an object's corners
CONTRAST = (42.0, 120.0)  # grey levels between an object's colour and what is behind it
MAX_HIDDEN = 0.6  # an object hidden more than this has no label
STRETCH = (1.3, 2.6)  # how many times longer than wide the task obb makes objects
ROOM = 1.3  # radii from the centre of a stretched object to the image's edge, at least
CROP_SIZE = 64  # pixels of a side of an image of the task classify, whatever --size is
CROP = 1.2  # side of what is cut out, as a multiple of the object's
CROP_VISIBLE = 0.9  # of an object, or it is not cut out

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One image, uint8 RGB [size, size, 3], and its labels, float64 [n, 5].

    A label is class, centre x, centre y, width and height; all but the class are parts of the size.
    ``things`` are the labelled objects, in the same order, ``keypoints`` [n, 4, 3] their keypoints
    in pixels and what can be seen of each, and ``shown`` [n] the part of each that can be seen.
    """

    image: Image
    labels: Floats
    things: tuple[Thing, ...]
    keypoints: Floats
    shown: Floats


def draw(
    split: str, index: int, size: int = 160, seed: int = 0, *, stretched: bool = False
) -> Sample:
    """Draw image ``index`` of ``split``; later things cover earlier ones."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    canvas = background(rng, size)
    things = scatter(rng, size, stretched)
    top = np.full((size, size), -1)  # the thing seen at each pixel
    areas = []
    for number, thing in enumerate(things):
        cover = np.clip(inside(rng, thing, size) + 0.5, 0.0, 1.0)
        paint(rng, canvas, cover)
        top[cover > 0.5] = number
        areas.append(np.count_nonzero(cover > 0.5))
    canvas += rng.normal(0.0, rng.uniform(1.0, 7.0), canvas.shape)
    seen = [np.count_nonzero(top == number) for number in range(len(things))]
    kept = [
        number
        for number, thing in enumerate(things)
        if thing.kind is not None and seen[number] >= (1.0 - MAX_HIDDEN) * areas[number]
    ]
    return Sample(
        image=np.clip(np.rint(canvas), 0, 255).astype(np.uint8),
        labels=np.array([label(things[n], size) for n in kept], np.float64).reshape(-1, 5),
        things=tuple(things[n] for n in kept),
        keypoints=np.array([keypoints(things[n], top > n) for n in kept]).reshape(-1, 4, 3),
        shown=np.array([seen[n] / max(areas[n], 1) for n in kept]),
    )


def scatter(rng: np.random.Generator, size: int, stretched: bool) -> list[Thing]:
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
            thing = place(rng, kinds[position], size, stretched)
            if thing.kind is None or not any(crowds(thing, other) for other in things):
                things.append(thing)
                break
    return things


def place(rng: np.random.Generator, kind: int | None, size: int, stretched: bool) -> Thing:
    """Choose radius (log-uniform), turn and centre; the edge may cut off a quarter of the width.

    Stretched objects lie in the image as a whole, for their boxes must.
    """
    radius = float(np.exp(rng.uniform(*np.log(RADIUS)))) * size / 160
    margin = radius * ROOM if stretched else radius / 2
    x, y = rng.uniform(margin, size - margin, 2)
    turn = float(rng.uniform(0, 2 * np.pi))
    stretch = float(rng.uniform(*STRETCH)) if stretched and kind is not None else 1.0
    return Thing(kind, float(x), float(y), radius, turn, stretch)


def crowds(thing: Thing, other: Thing) -> bool:
    """Whether two objects would overlap by over 30 % of their radii; clutter may lie anywhere."""
    near = np.hypot(thing.x - other.x, thing.y - other.y) < 0.7 * (thing.radius + other.radius)
    return other.kind is not None and bool(near)


def label(thing: Thing, size: int) -> Floats:
    """Return the label [5] of the whole object, cut off at the image's edge."""
    points = tips(thing) if thing.stretch == 1 else outline(thing)
    low, high = np.clip([points.min(0), points.max(0)], 0, size) / size
    return np.array([thing.kind, *(low + high) / 2, *(high - low)])


def keypoints(thing: Thing, covered: NDArray[np.bool_]) -> Floats:
    """Return the keypoints [4, 3] of an object; ``covered`` [size, size] is where later things lie.

    Each is x, y and what can be seen of it; x and y are 0 where it lies outside of the image.
    """
    rows = []
    for x, y in extremes(thing):
        column, row = int(np.floor(x)), int(np.floor(y))
        if not (0 <= row < len(covered) and 0 <= column < len(covered)):
            rows.append((0.0, 0.0, OUTSIDE))
        else:
            rows.append((x, y, HIDDEN if covered[row, column] else VISIBLE))
    return np.array(rows, np.float64)


def inside(rng: np.random.Generator, thing: Thing, size: int) -> Floats:
    """Return each pixel's distance [size, size] to the outline, in pixels, positive inside."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    x, y, radius = columns - thing.x, rows - thing.y, thing.radius
    if thing.stretch != 1:
        x, y = np.moveaxis(squeeze(np.stack([x, y], -1), thing.axis, thing.stretch), -1, 0)
    if thing.kind is None:
        along = x * np.cos(thing.turn) + y * np.sin(thing.turn)
        across = y * np.cos(thing.turn) - x * np.sin(thing.turn)
        return CLUTTER[rng.integers(len(CLUTTER))](along, across, radius)
    if thing.kind == 0:
        return np.asarray(radius - np.hypot(x, y))
    middle = np.cos(np.pi / CORNERS[thing.kind])
    return spiked(
        x, y, thing, CORNERS[thing.kind], STAR_INNER if thing.kind == STAR else float(middle)
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


def names_of(task: str) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers: for classify that of folders."""
    return tuple(sorted(NAMES)) if task == "classify" else NAMES


def crops(sample: Sample) -> list[tuple[str, Image]]:
    """Cut out what can be seen well: names of classes and uint8 RGB [CROP_SIZE, CROP_SIZE, 3].

    What is cut out is square and lies in the image as a whole, with the object as far in its middle
    as that allows. Objects that the image's edge cuts off are left out.
    """
    size = len(sample.image)
    found = []
    for thing, box, shown in zip(sample.things, sample.labels[:, 1:], sample.shown, strict=True):
        points = tips(thing)
        if shown < CROP_VISIBLE or points.min() < 0 or points.max() > size:
            continue
        side = min(int(np.ceil(box[2:].max() * size * CROP)), size)
        left, top = np.clip(np.rint(box[:2] * size - side / 2), 0, size - side).astype(int)
        cut_out = np.ascontiguousarray(sample.image[top : top + side, left : left + side])
        image = cv2.resize(cut_out, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
        assert thing.kind is not None
        found.append((NAMES[thing.kind], image.astype(np.uint8, copy=False)))
    return found


def write_crops(out: Path, split: str, count: int, size: int, seed: int) -> None:
    """Write what ``crops`` cuts out of ``count`` images of ``split``, in a folder for each class."""
    for name in NAMES:
        (out / split / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        for number, (name, image) in enumerate(crops(draw(split, index, size, seed))):
            path = out / split / name / f"{index:05d}-{number}.jpg"
            path.write_bytes(to_jpeg(image))


def write_split(
    out: Path, split: str, count: int, size: int, seed: int, task: str = "detect"
) -> None:
    """Write ``count`` images and label files of ``split`` below ``out``."""
    images, labels = out / "images" / split, out / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        sample = draw(split, index, size, seed, stretched=task == "obb")
        (images / f"{index:05d}.jpg").write_bytes(to_jpeg(sample.image))
        (labels / f"{index:05d}.txt").write_text(label_text(sample, task))


def label_text(sample: Sample, task: str = "detect") -> str:
    """Write the labels of an image as the lines of its label file.

    ``class x y width height`` and, for pose, ``x y seen`` of four keypoints; for segment and obb
    ``class x y x y ...``, the outline or the corners of the rotated box.
    """
    size = len(sample.image)
    lines = []
    for thing, box, points in zip(sample.things, sample.labels, sample.keypoints, strict=True):
        numbers = [f"{value:.6f}" for value in box[1:]]
        if task == "pose":
            for x, y, seen in points:
                numbers += [f"{x / size:.6f}", f"{y / size:.6f}", f"{seen:.0f}"]
        elif task in ("segment", "obb"):
            around = clip(outline(thing), size) if task == "segment" else rotated_box(thing)
            numbers = [f"{value:.6f}" for value in around.ravel() / size]
        lines.append(" ".join([str(thing.kind), *numbers]) + "\n")
    return "".join(lines)


def data_yaml(task: str = "detect") -> str:
    """Return the data set's description; having no ``path``, its folders lie beside the file."""
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    points = f"kpt_shape: [{len(FLIP)}, 3]\nflip_idx: {list(FLIP)}\n" if task == "pose" else ""
    return f"train: images/train\nval: images/val\n{points}names:\n{names}"


def main() -> None:
    """Write both splits and data.yaml."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=TASKS, default="detect")
    parser.add_argument("--train", type=int, default=64, help="scenes in the train split")
    parser.add_argument("--val", type=int, default=200, help="scenes in the val split")
    parser.add_argument("--size", type=int, default=160, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for split, count in (("train", options.train), ("val", options.val)):
        if options.task == "classify":
            write_crops(options.out, split, count, options.size, options.seed)
        else:
            write_split(options.out, split, count, options.size, options.seed, options.task)
    if options.task != "classify":
        (options.out / "data.yaml").write_text(data_yaml(options.task))


if __name__ == "__main__":
    main()
