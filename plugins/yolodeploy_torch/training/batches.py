"""Training batches: images of a view with labels, shuffled and varied as the seed decides."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from yolodeploy.data import Dataset, Letterboxed, letterboxed_file
from yolodeploy.system import ImageShape
from yolodeploy_torch.losses.detection import Targets
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training.augment import Sample, augment_sample

CACHE_BYTES = 512 << 20


class Batch(NamedTuple):
    """Images float32 RGB [b, channels, h, w] in 0..1 (in memory the channels come last) and their objects."""

    images: Tensor
    targets: Targets


class Batches:
    """The images of a view with labels, varied, epoch by epoch.

    An epoch depends on the view, the seed and its own number alone, so a resumed run sees the same images.
    Decoded images stay in memory up to CACHE_BYTES.
    """

    def __init__(self, view: Dataset, imgsz: ImageShape, augment: Augment, seed: int) -> None:
        self._view = view
        self._imgsz = imgsz
        self._augment = augment
        self._seed = seed
        self._cache: dict[int, Sample] = {}
        self._cache_size = CACHE_BYTES // (imgsz.channels * imgsz.pixels)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._view)

    def epoch(self, number: int, size: int) -> Iterator[Batch]:
        """Batches of `size` images, each image once; an incomplete last batch is dropped unless it is the only one.

        A thread makes the next batch while the caller works on one. Raises DataError for an image that
        cannot be read.
        """
        total = len(self)
        order = np.random.default_rng([self._seed, number, 0]).permutation(total)
        starts = range(0, max(total - size, 0) + 1, size)
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._batch, number, order, starts[0], size)
            for start in starts[1:]:
                batch = ahead.result()
                ahead = thread.submit(self._batch, number, order, start, size)
                yield batch
            yield ahead.result()

    def _batch(self, number: int, order: np.ndarray, start: int, size: int) -> Batch:
        chosen = order[start : start + size]
        samples = [self._varied(number, start + at, int(i)) for at, i in enumerate(chosen)]
        pixels = torch.from_numpy(np.stack([sample.pixels for sample in samples]))
        image = np.repeat(np.arange(len(samples)), [len(sample.cls) for sample in samples])
        span = np.array([self._imgsz.width, self._imgsz.height] * 2, np.float32)
        corners = np.concatenate([sample.corners for sample in samples]) / span
        centre, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        targets = Targets(
            torch.from_numpy(image),
            torch.from_numpy(np.concatenate([sample.cls for sample in samples])),
            torch.from_numpy(np.concatenate((centre, extent), axis=1)),
        )
        return Batch(pixels.permute(0, 3, 1, 2).float().div_(255), targets)

    def _varied(self, number: int, position: int, index: int) -> Sample:
        rng = np.random.default_rng([self._seed, number, position + 1])
        return augment_sample(
            self._sample(index), self._sample, len(self), self._augment, rng, self._imgsz.fill
        )

    def _sample(self, index: int) -> Sample:
        """A letterboxed image with its labels, from memory or file."""
        if index in self._cache:
            return self._cache[index]
        path = self._view.images[index]
        box = letterboxed_file(path, self._imgsz)
        labels = self._view.boxes(path)
        fractions = np.array([(b.x, b.y, b.width, b.height) for b in labels]).reshape(-1, 4)
        spans = fractions * (np.array([box.width, box.height] * 2) * (box.scale * 2))
        centre, half = spans[:, :2] + (box.left, box.top), spans[:, 2:] / 2
        sample = Sample(
            box.pixels,
            np.array([b.cls for b in labels], np.int64),
            np.concatenate((centre - half, centre + half), axis=1).astype(np.float32),
            _content(box),
        )
        if len(self._cache) < self._cache_size:
            self._cache[index] = sample
        return sample


def _content(box: Letterboxed) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the image within its grey border, in whole px."""
    sides = zip((box.width, box.height), box.scale, strict=True)
    width, height = (max(1, round(side * scale)) for side, scale in sides)
    return box.left, box.top, box.left + width, box.top + height
