"""Training batches: images of a view with labels, shuffled and varied as the seed decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from yolodeploy.data import Dataset, Letterboxed, letterboxed_file
from yolodeploy.system import ImageShape
from yolodeploy_torch.losses import Targets
from yolodeploy_torch.params import Augment
from yolodeploy_torch.training.augment import Sample, augment_sample
from yolodeploy_torch.training.shapes import joined, keypoints, masks, rectangles, shapes_of

CACHE_BYTES = 512 << 20


class Batch(NamedTuple):
    """Images float32 RGB [b, channels, h, w] in 0..1 (in memory the channels come last) and their objects.

    `extra` is what is labelled of each object beside its upright box: of a pose keypoints float32 [n, K, 3] (x and y in
    px, visibility), of a rotated box its centre x and y, width and height in px and its angle, float32 [n, 5], of a mask
    its pixels uint8 [n, h', w'] at the resolution of the prototypes if that was given. An image of a classification
    data set has one object, which fills it.
    """

    images: Tensor
    targets: Targets
    extra: Tensor | None = None


class Batches:
    """The images of a view with labels, varied, epoch by epoch.

    An epoch depends on the view, the seed and its own number alone, so a resumed run sees the same images.
    Decoded images stay in memory up to CACHE_BYTES. `masks` is the height and width of the masks that are wanted.
    """

    def __init__(
        self,
        view: Dataset,
        imgsz: ImageShape,
        augment: Augment,
        seed: int,
        masks: tuple[int, int] | None = None,
    ) -> None:
        self._view = view
        self._masks = masks
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
        return Batch(pixels.permute(0, 3, 1, 2).float().div_(255), targets, self._extra(samples))

    def _extra(self, samples: Sequence[Sample]) -> Tensor | None:
        """What the losses want of the shapes in some images."""
        shapes = [sample.shapes for sample in samples if sample.shapes]
        if not shapes:
            return None
        if self._view.task == "obb":
            return torch.from_numpy(rectangles(joined(shapes)))
        if self._view.task == "pose" and self._view.keypoints:
            return torch.from_numpy(keypoints(joined(shapes), self._view.keypoints.count))
        if self._masks is None:
            return None
        size, step = (self._imgsz.height, self._imgsz.width), self._imgsz.height // self._masks[0]
        return torch.from_numpy(np.concatenate([masks(each, size, step) for each in shapes]))

    def _varied(self, number: int, position: int, index: int) -> Sample:
        rng = np.random.default_rng([self._seed, number, position + 1])
        sample, whole = self._sample(index), self._view.place is None
        fill = self._imgsz.fill if whole else None  # a crop has no grey border
        varied = augment_sample(sample, self._sample, len(self), self._augment, rng, fill)
        return varied if whole else replace(varied, cls=sample.cls, corners=sample.corners)

    def _sample(self, index: int) -> Sample:
        """A letterboxed image with its labels, from memory or file."""
        if index in self._cache:
            return self._cache[index]
        path = self._view.images[index]
        box = letterboxed_file(path, self._imgsz)
        sample = self._found(path, box) if self._view.place is None else self._classified(path, box)
        if len(self._cache) < self._cache_size:
            self._cache[index] = sample
        return sample

    def _found(self, path: Path, box: Letterboxed) -> Sample:
        """An image with its objects."""
        labels = self._view.labels(path)
        boxes = [label.box for label in labels]
        fractions = np.array([(b.x, b.y, b.width, b.height) for b in boxes]).reshape(-1, 4)
        spans = fractions * (np.array([box.width, box.height] * 2) * (box.scale * 2))
        centre, half = spans[:, :2] + (box.left, box.top), spans[:, 2:] / 2
        return Sample(
            box.pixels,
            np.array([b.cls for b in boxes], np.int64),
            np.concatenate((centre - half, centre + half), axis=1).astype(np.float32),
            _content(box),
            shapes_of(labels, self._view, box),
        )

    def _classified(self, path: Path, box: Letterboxed) -> Sample:
        """An image with its class, as one object that fills it."""
        whole = 0, 0, self._imgsz.width, self._imgsz.height
        cls = np.array([self._view.class_of(path)], np.int64)
        return Sample(box.pixels, cls, np.array([whole], np.float32), whole)


def _content(box: Letterboxed) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the image within its grey border, in whole px."""
    sides = zip((box.width, box.height), box.scale, strict=True)
    width, height = (max(1, round(side * scale)) for side, scale in sides)
    return box.left, box.top, box.left + width, box.top + height
