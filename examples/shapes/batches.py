"""Training images of the shapes task, held in memory, and the varied batches made of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import generate
import numpy as np
import torch
from generate import Floats, Image
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Images, uint8 RGB [n, size, size, 3], and the labels of each, [objects, 5] as in its file."""

    pixels: Image
    labels: list[Floats]


def draw_images(count: int, size: int, seed: int) -> Images:
    """Draw the first ``count`` images of the train split, on all cores."""
    job = functools.partial(draw_as_read, size=size, seed=seed)
    with ProcessPoolExecutor() as pool:
        samples = list(pool.map(job, range(count), chunksize=50))
    return Images(
        np.stack([sample.image for sample in samples]), [sample.labels for sample in samples]
    )


def kept_images(cache: Path | None, count: int, size: int, seed: int) -> Images:
    """Return ``draw_images``, from the file ``cache`` if there is one, which is written if not."""
    if cache is None:
        return draw_images(count, size, seed)
    told = [count, size, seed]
    if not cache.exists():
        images = draw_images(count, size, seed)
        rows = np.concatenate(images.labels)
        counts = [len(labels) for labels in images.labels]
        np.savez(cache, told=told, pixels=images.pixels, rows=rows, counts=counts)
        return images
    kept = np.load(cache)
    if kept["told"].tolist() != told:
        raise SystemExit(
            f"{cache} holds images of (count, size, seed) {kept['told'].tolist()}, not {told}: "
            "give another file"
        )
    labels = np.split(kept["rows"], np.cumsum(kept["counts"])[:-1])
    return Images(kept["pixels"], labels)


def draw_as_read(index: int, size: int, seed: int) -> generate.Sample:
    """Draw one image of the train split and pass it through the JPEG that its file would hold."""
    sample = generate.draw("train", index, size, seed)
    return generate.Sample(generate.from_jpeg(generate.to_jpeg(sample.image)), sample.labels)


def batches(images: Images, size: int, seed: int, epoch: int) -> Iterator[dict[str, Tensor]]:
    """Yield the full batches of ``size`` images in an order that depends on (seed, epoch) alone."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(images.labels))
    for at in range(0, len(order) - size + 1, size):
        yield batch(rng, images, order[at : at + size])


def batch(rng: np.random.Generator, images: Images, chosen: np.ndarray) -> dict[str, Tensor]:
    """Return one batch as v8DetectionLoss takes it.

    ``img`` is float32 [b, 3, h, w] in 0..1. The others have a row for every object in the batch:
    ``batch_idx`` [n], ``cls`` [n, 1] and ``bboxes`` [n, 4], centre x, y, width, height in 0..1.
    """
    pairs = [vary(rng, images.pixels[i], images.labels[i]) for i in chosen]
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in pairs]))
    rows = torch.from_numpy(np.concatenate([labels for _, labels in pairs])).float()
    owners = np.repeat(np.arange(len(pairs)), [len(labels) for _, labels in pairs])
    return {
        "img": shade(rng, pixels.float().div_(255)).permute(0, 3, 1, 2),
        "batch_idx": torch.from_numpy(owners).float(),
        "cls": rows[:, :1],
        "bboxes": rows[:, 1:],
    }


def shade(rng: np.random.Generator, pixels: Tensor) -> Tensor:
    """Vary the contrast of each image of [b, h, w, 3] by a fifth, its brightness by a tenth."""
    drawn = torch.from_numpy(rng.uniform((0.8, -0.1), (1.2, 0.1), (len(pixels), 2))).float()
    contrast, brightness = drawn.view(-1, 2, 1, 1, 1).unbind(1)
    return ((pixels - 0.5) * contrast + 0.5 + brightness).clamp_(0, 1)


def vary(rng: np.random.Generator, pixels: Image, labels: Floats) -> tuple[Image, Floats]:
    """Mirror, turn and permute the colours of an image [h, w, 3]; its labels [n, 5] follow."""
    labels = labels.copy()
    across, down, swap = rng.random(3) < 0.5
    if across:
        pixels, labels[:, 1] = pixels[:, ::-1], 1 - labels[:, 1]
    if down:
        pixels, labels[:, 2] = pixels[::-1], 1 - labels[:, 2]
    if swap:
        pixels, labels = pixels.transpose(1, 0, 2), labels[:, [0, 2, 1, 4, 3]]
    return pixels[..., rng.permutation(3)], labels
