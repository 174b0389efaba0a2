"""Runs models on the images of a view, side by side.

One thread reads and letterboxes images, and each opened copy of a model has a thread of its own, while the caller
decodes what came before. Copies take the images in turn, or batches of them if the model takes several at a time. Everything arrives in the order of the view, whichever thread
is faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from yolodeploy.backend import Layout, batch_of, layout_of
from yolodeploy.data import Dataset, Letterboxed, letterboxed_file, to_tensor
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.matching import Truth
from yolodeploy.tasks.detection.postprocess import Detections, Floats, detect
from yolodeploy.tasks.thresholds import EVALUATION, Rules

_AHEAD = 1  # batches that are read and wait while every copy works on one

Run = Callable[
    [Floats], Floats
]  # images [N, channels, H, W] -> anchors [N, 4 + classes, anchors] or rows [N, k, 6]; see `batch_of`


@dataclass(frozen=True)
class Seen:
    """One image, its labels, and the output of each model.

    `number` counts from 0. `tensor` is float32 `[1, channels, height, width]` in 0..1; `outputs` are anchors
    `[4 + classes, anchors]` or rows `[k, 6]` as `layouts` says, in the order of the models. `rules` are those of the evaluation.
    """

    number: int
    image: Path
    box: Letterboxed
    tensor: Floats
    truth: Truth
    outputs: tuple[Floats, ...]
    layouts: tuple[Layout, ...]
    rules: Rules

    def found(self, which: int, rules: Rules | None = None) -> Detections:
        """The detections of one model, by the rules of the evaluation or by others."""
        return detect(self.outputs[which], rules or self.rules, self.box, self.layouts[which])


@dataclass(frozen=True)
class _Read:
    box: Letterboxed
    tensor: Floats
    truth: Truth


def evaluate(
    view: Dataset,
    imgsz: ImageShape,
    *models: Sequence[Run],
    head: Head,
    progress: Callable[[float, str], None] = lambda _done, _text: None,
) -> Iterator[Seen]:
    """Run models on the same letterboxed images of a view, a few images in memory at a time.

    A model is one or more opened copies, which must give the same output for the same image. One that takes several
    images at a time gets so many, but the last of the view. `head` is the one that gives the outputs of all of them.
    """
    layouts, rules = tuple(layout_of(copies[0]) for copies in models), EVALUATION.for_head(head)
    waiting: deque[_Group] = deque()
    ahead = _AHEAD + max(map(len, models))
    number = 0
    with ExitStack() as stack:
        workers = [_Workers(copies, stack) for copies in models]
        reader = _thread(stack)
        stack.callback(_cancel, waiting)
        size = max(worker.batch for worker in workers)
        groups = (view.images[start : start + size] for start in range(0, len(view), size))
        while True:
            for _, paths in zip(range(ahead - len(waiting)), groups, strict=False):
                reads = [reader.submit(_read, view, path, imgsz) for path in paths]
                waiting.append(_Group(reads, [worker.start(reads) for worker in workers]))
            if not waiting:
                return
            for given, outputs in waiting.popleft().results():
                image = view.images[number]
                yield Seen(
                    number, image, given.box, given.tensor, given.truth, outputs, layouts, rules
                )
                number += 1
                progress(number / len(view), f"{number}/{len(view)} images")


@dataclass(frozen=True)
class _Group:
    """Images on their way: each read, and for each model the run that it is part of, and its place in that."""

    reads: Sequence[Future[_Read]]
    runs: Sequence[Sequence[tuple[Future[Floats], int]]]

    def results(self) -> Iterator[tuple[_Read, tuple[Floats, ...]]]:
        """Each image with the output of each model, as soon as they are there."""
        for read, *runs in zip(self.reads, *self.runs, strict=True):
            yield read.result(), tuple(run.result()[place] for run, place in runs)


class _Workers:
    """The copies of a model, which take batches of `batch` images in turn, each in a thread of its own."""

    def __init__(self, copies: Sequence[Run], stack: ExitStack) -> None:
        self.batch = batch_of(copies[0])
        self._turns = cycle([(copy, _thread(stack)) for copy in copies])

    def start(self, reads: Sequence[Future[_Read]]) -> list[tuple[Future[Floats], int]]:
        """Begin to run the images; returns the run of each and its place in that."""
        found = []
        for start in range(0, len(reads), self.batch):
            part = reads[start : start + self.batch]
            copy, thread = next(self._turns)
            run = thread.submit(_run, copy, part)
            found += [(run, place) for place in range(len(part))]
        return found


def _thread(stack: ExitStack) -> ThreadPoolExecutor:
    return stack.enter_context(ThreadPoolExecutor(1))


def _read(view: Dataset, image: Path, imgsz: ImageShape) -> _Read:
    box = letterboxed_file(image, imgsz)
    return _Read(box, to_tensor(box.pixels), Truth(view.boxes(image), box.width, box.height))


def _run(model: Run, reads: Sequence[Future[_Read]]) -> Floats:
    tensors = [read.result().tensor for read in reads]
    return model(tensors[0] if len(tensors) == 1 else np.concatenate(tensors))


def _cancel(waiting: deque[_Group]) -> None:
    """Do not begin what nobody waits for any more."""
    for group in waiting:
        for read in group.reads:
            read.cancel()
        for run, _ in (each for runs in group.runs for each in runs):
            run.cancel()
