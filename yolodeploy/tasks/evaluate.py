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
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from yolodeploy.backend import Layout, Outputs, batch_of, layout_of, named_outputs
from yolodeploy.data import Dataset, Letterboxed, letterboxed_file, to_tensor
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape

if TYPE_CHECKING:
    from yolodeploy.tasks.task import Task
    from yolodeploy.tasks.thresholds import Rules

_AHEAD = 1  # batches that are read and wait while every copy works on one

Floats = NDArray[np.float32]
Run: TypeAlias = (
    "Callable[[Floats], Floats | Outputs]"  # as a `Predictor` runs a batch; see `batch_of`
)


@dataclass(frozen=True)
class Seen:
    """One image, what is labelled in it, and the outputs of each model.

    `number` counts from 0. `tensor` is float32 `[1, channels, height, width]` in 0..1; `outputs` are those of the
    models, in their order, as `layouts` says. `rules` are those of the evaluation.
    """

    number: int
    image: Path
    box: Letterboxed
    tensor: Floats
    truth: Any
    outputs: tuple[Outputs, ...]
    layouts: tuple[Layout, ...]
    task: Task[Any, Any]
    rules: Rules

    def found(self, which: int, rules: Rules | None = None) -> Any:
        """What one model found, by the rules of the evaluation or by others."""
        outputs, layout = self.outputs[which], self.layouts[which]
        return self.task.found(outputs, rules or self.rules, self.box, layout)


@dataclass(frozen=True)
class _Read:
    box: Letterboxed
    tensor: Floats
    truth: Any


def evaluate(
    view: Dataset,
    imgsz: ImageShape,
    *models: Sequence[Run],
    task: Task[Any, Any],
    head: Head,
    progress: Callable[[float, str], None] = lambda _done, _text: None,
) -> Iterator[Seen]:
    """Run models on the same letterboxed images of a view, a few images in memory at a time.

    A model is one or more opened copies, which must give the same output for the same image. One that takes several
    images at a time gets so many, but the last of the view. All do the same `task`, and `head` gives the outputs of all.
    """
    layouts = tuple(layout_of(copies[0]) for copies in models)
    rules = task.evaluation.for_head(head)
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
                reads = [reader.submit(_read, view, path, imgsz, task) for path in paths]
                waiting.append(
                    _Group(reads, [worker.start(reads, task.outputs) for worker in workers])
                )
            if not waiting:
                return
            for given, outputs in waiting.popleft().results():
                image = view.images[number]
                read = given.box, given.tensor, given.truth
                yield Seen(number, image, *read, outputs, layouts, task, rules)
                number += 1
                progress(number / len(view), f"{number}/{len(view)} images")


@dataclass(frozen=True)
class _Group:
    """Images on their way: each read, and for each model the run that it is part of, and its place in that."""

    reads: Sequence[Future[_Read]]
    runs: Sequence[Sequence[tuple[Future[Outputs], int]]]

    def results(self) -> Iterator[tuple[_Read, tuple[Outputs, ...]]]:
        """Each image with the outputs of each model, as soon as they are there."""
        for read, *runs in zip(self.reads, *self.runs, strict=True):
            yield read.result(), tuple(_of_image(run.result(), place) for run, place in runs)


class _Workers:
    """The copies of a model, which take batches of `batch` images in turn, each in a thread of its own."""

    def __init__(self, copies: Sequence[Run], stack: ExitStack) -> None:
        self.batch = batch_of(copies[0])
        self._turns = cycle([(copy, _thread(stack)) for copy in copies])

    def start(
        self, reads: Sequence[Future[_Read]], outputs: Sequence[str]
    ) -> list[tuple[Future[Outputs], int]]:
        """Begin to run the images; returns the run of each, with outputs of these names, and its place in that."""
        found = []
        for start in range(0, len(reads), self.batch):
            part = reads[start : start + self.batch]
            copy, thread = next(self._turns)
            run = thread.submit(_run, copy, part, outputs)
            found += [(run, place) for place in range(len(part))]
        return found


def _thread(stack: ExitStack) -> ThreadPoolExecutor:
    return stack.enter_context(ThreadPoolExecutor(1))


def _read(view: Dataset, image: Path, imgsz: ImageShape, task: Task[Any, Any]) -> _Read:
    box = letterboxed_file(image, imgsz)
    return _Read(box, to_tensor(box.pixels), task.truth(view, image, box.width, box.height))


def _run(model: Run, reads: Sequence[Future[_Read]], outputs: Sequence[str]) -> Outputs:
    tensors = [read.result().tensor for read in reads]
    found = model(tensors[0] if len(tensors) == 1 else np.concatenate(tensors))
    return named_outputs(found, outputs)


def _of_image(outputs: Outputs, place: int) -> Outputs:
    return {name: output[place] for name, output in outputs.items()}


def _cancel(waiting: deque[_Group]) -> None:
    """Do not begin what nobody waits for any more."""
    for group in waiting:
        for read in group.reads:
            read.cancel()
        for run, _ in (each for runs in group.runs for each in runs):
            run.cancel()
