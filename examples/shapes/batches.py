"""Training images of the shapes task, held in memory, and the varied batches made of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import generate
import numpy as np
import torch
from generate import Floats, Image
from outlines import Thing, clip, outline, rotated_box
from torch import Tensor

MASK_STEP = 4  # pixels of the image to a pixel of a mask, along each side
# What becomes of top, right, bottom and left where an image is mirrored or transposed.
ACROSS, DOWN, SWAP = [0, 3, 2, 1], [2, 1, 0, 3], [3, 2, 1, 0]


@dataclass(frozen=True)
class Images:
    """Images, uint8 RGB [n, size, size, 3], and what is shown on each, objects in the same order.

    ``labels`` are [objects, 5]: class, centre x, y, width and height in 0..1. ``points`` are
    [objects, 4, 3]: keypoints (for obb corners), x and y in 0..1 and what can be seen of them.
    ``masks`` are uint8 [n, size / 4, size / 4]: 0, or 1 + the number of the object at that place.
    """

    pixels: Image
    labels: list[Floats]
    points: list[Floats]
    masks: Image


@dataclass(frozen=True)
class One:
    """One of ``Images``."""

    pixels: Image
    labels: Floats
    points: Floats
    mask: Image


def draw_images(task: str, count: int, size: int, seed: int) -> Images:
    """Draw the first ``count`` images of the train split, on all cores."""
    job = functools.partial(draw_as_read, task, size=size, seed=seed)
    with ProcessPoolExecutor() as pool:
        drawn = [one for some in pool.map(job, range(count), chunksize=50) for one in some]
    return Images(
        np.stack([one.pixels for one in drawn]),
        [one.labels for one in drawn],
        [one.points for one in drawn],
        np.stack([one.mask for one in drawn]),
    )


def kept_images(cache: Path | None, task: str, count: int, size: int, seed: int) -> Images:
    """Return ``draw_images``, from the file ``cache`` if there is one, which is written if not."""
    if cache is None:
        return draw_images(task, count, size, seed)
    told = [task, str(count), str(size), str(seed)]
    if not cache.exists():
        images = draw_images(task, count, size, seed)
        np.savez(
            cache,
            told=told,
            pixels=images.pixels,
            rows=np.concatenate(images.labels),
            points=np.concatenate(images.points),
            masks=images.masks,
            counts=[len(labels) for labels in images.labels],
        )
        return images
    kept = np.load(cache)
    if kept["told"].tolist() != told:
        raise SystemExit(
            f"{cache} holds images of (task, count, size, seed) {kept['told'].tolist()}, "
            f"not {told}: give another file"
        )
    ends = np.cumsum(kept["counts"])[:-1]
    rows, points = np.split(kept["rows"], ends), np.split(kept["points"], ends)
    return Images(kept["pixels"], rows, points, kept["masks"])


def draw_as_read(task: str, index: int, size: int, seed: int) -> list[One]:
    """Draw one scene of the train split and pass it through the JPEGs that its files would hold.

    The task classify has an image for every object, the others one.
    """
    sample = generate.draw("train", index, size, seed, stretched=task == "obb")
    if task == "classify":
        nothing = np.zeros((1, 4, 3)), np.zeros((1, 1), np.uint8)
        names = generate.names_of(task)
        numbered = [(names.index(name), image) for name, image in generate.crops(sample)]
        return [
            One(as_read(image), np.array([[kind, 0.5, 0.5, 1.0, 1.0]]), *nothing)
            for kind, image in numbered
        ]
    points = sample.keypoints / (size, size, 1)
    if task == "obb":
        corners = [np.pad(rotated_box(thing) / size, ((0, 0), (0, 1))) for thing in sample.things]
        points = np.array(corners).reshape(-1, 4, 3)
    mask = mask_of(sample.things, size) if task == "segment" else np.zeros((1, 1), np.uint8)
    return [One(as_read(sample.image), sample.labels, points, mask)]


def as_read(image: Image) -> Image:
    """Pass an image through the JPEG that its file would hold."""
    return generate.from_jpeg(generate.to_jpeg(image))


def mask_of(things: tuple[Thing, ...], size: int) -> Image:
    """Return the mask [size / 4, size / 4] of an image; smaller objects cover larger ones."""
    width = size // MASK_STEP
    mask = np.zeros((width, width), np.uint8)
    for number in sorted(range(len(things)), key=lambda n: -things[n].radius):
        whole = np.zeros((size, size), np.uint8)
        cv2.fillPoly(whole, [np.int32(np.rint(clip(outline(things[number]), size) - 0.5))], 255)
        mask[cv2.resize(whole, (width, width), interpolation=cv2.INTER_AREA) > 127] = number + 1
    return mask


def batches(
    images: Images, task: str, size: int, seed: int, epoch: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the full batches of ``size`` images in an order that depends on (seed, epoch) alone."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(images.labels))
    for at in range(0, len(order) - size + 1, size):
        yield batch(rng, images, task, order[at : at + size])


def batch(
    rng: np.random.Generator, images: Images, task: str, chosen: np.ndarray
) -> dict[str, Tensor]:
    """Return one batch as Ultralytics' loss of the task takes it.

    ``img`` is float32 [b, 3, h, w] in 0..1. Of the others, ``masks`` (segment) are [b, h / 4, w / 4]
    and ``cls`` of classify is [b]. The rest has a row for every object in the batch: ``batch_idx``
    [n], ``cls`` [n, 1], ``bboxes`` [n, 4], centre x, y, width, height in 0..1, or [n, 5] with an
    angle (obb), and ``keypoints`` [n, 4, 3] (pose).
    """
    ones = [vary(rng, one_of(images, int(i))) for i in chosen]
    pixels = torch.from_numpy(np.stack([one.pixels for one in ones]))
    rows = torch.from_numpy(np.concatenate([one.labels for one in ones])).float()
    told = {"img": shade(rng, pixels.float().div_(255)).permute(0, 3, 1, 2)}
    if task == "classify":
        return told | {"cls": rows[:, 0].long()}
    owners = np.repeat(np.arange(len(ones)), [len(one.labels) for one in ones])
    points = np.concatenate([one.points for one in ones])
    told |= {
        "batch_idx": torch.from_numpy(owners).float(),
        "cls": rows[:, :1],
        "bboxes": rows[:, 1:],
    }
    if task == "segment":
        told["masks"] = torch.from_numpy(np.stack([one.mask for one in ones])).float()
    if task == "pose":
        told["keypoints"] = torch.from_numpy(points).float()
    if task == "obb":
        told["bboxes"] = torch.from_numpy(turned_boxes(points[..., :2])).float()
    return told


def one_of(images: Images, number: int) -> One:
    """Return one of the images."""
    return One(
        images.pixels[number], images.labels[number], images.points[number], images.masks[number]
    )


def turned_boxes(corners: Floats) -> Floats:
    """Return boxes [n, 5] of corners [n, 4, 2]: centre, longer and shorter side, and its angle.

    The angle from the x axis to the longer side is in -pi / 4 .. 3 pi / 4.
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    long, short = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    swap = short > long
    x, y = np.where(swap[:, None], second, first).T
    angle = (np.arctan2(y, x) + np.pi / 4) % np.pi - np.pi / 4
    sides = np.stack([np.maximum(long, short), np.minimum(long, short), angle], 1)
    return np.concatenate([corners.mean(1), sides], 1)


def shade(rng: np.random.Generator, pixels: Tensor) -> Tensor:
    """Vary the contrast of each image of [b, h, w, 3] by a fifth, its brightness by a tenth."""
    drawn = torch.from_numpy(rng.uniform((0.8, -0.1), (1.2, 0.1), (len(pixels), 2))).float()
    contrast, brightness = drawn.view(-1, 2, 1, 1, 1).unbind(1)
    return ((pixels - 0.5) * contrast + 0.5 + brightness).clamp_(0, 1)


def vary(rng: np.random.Generator, one: One) -> One:
    """Mirror, turn and permute the colours of an image; what it shows follows."""
    across, down, swap = rng.random(3) < 0.5
    labels, points = one.labels.copy(), one.points.copy()
    pixels, mask = one.pixels, one.mask
    if across:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        labels[:, 1] = 1 - labels[:, 1]
        points[..., 0] = 1 - points[..., 0]
        points = points[:, ACROSS]
    if down:
        pixels, mask = pixels[::-1], mask[::-1]
        labels[:, 2] = 1 - labels[:, 2]
        points[..., 1] = 1 - points[..., 1]
        points = points[:, DOWN]
    if swap:
        pixels, mask = pixels.transpose(1, 0, 2), mask.T
        labels, points = labels[:, [0, 2, 1, 4, 3]], points[:, SWAP][..., [1, 0, 2]]
    return One(pixels[..., rng.permutation(3)], labels, points, mask)
