"""Runs models on the images of a view, side by side.

One thread reads and letterboxes images, and each opened copy of a model has a thread of its own, while the caller
decodes what came before. Copies take the images in turn. Everything arrives in the order of the view, whichever thread
is faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.backend import Layout, layout_of
from yolodeploy.data import Dataset, Letterboxed, letterboxed_file, to_tensor
from yolodeploy.recipe import Head
from yolodeploy.system import ImageShape
from yolodeploy.tasks.detection.matching import Truth
from yolodeploy.tasks.detection.postprocess import Detections, Floats, detect
from yolodeploy.tasks.detection.thresholds import EVALUATION, Rules

_AHEAD = 1  # images that are read and wait while every copy works on one

Run = Callable[
    [Floats], Floats
]  # images [1, channels, H, W] -> anchors [1, 4 + classes, anchors] or rows [1, k, 6]


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

    A model is one or more opened copies, which must give the same output for the same image. `head` is the
    one that gives the outputs of all of them.
    """
    layouts, rules = tuple(layout_of(copies[0]) for copies in models), EVALUATION.for_head(head)
    waiting: deque[tuple[Future[_Read], list[Future[Floats]]]] = deque()
    ahead = _AHEAD + max(map(len, models))
    numbered = enumerate(view.images)
    with ExitStack() as stack:
        threads = [[_thread(stack) for _ in copies] for copies in models]
        reader = _thread(stack)
        stack.callback(_cancel, waiting)
        for number, image in enumerate(view.images):
            for _, (turn, path) in zip(range(ahead - len(waiting)), numbered, strict=False):
                read = reader.submit(_read, view, path, imgsz)
                runs = [
                    own[turn % len(own)].submit(_run, copies[turn % len(own)], read)
                    for own, copies in zip(threads, models, strict=True)
                ]
                waiting.append((read, runs))
            read, runs = waiting.popleft()
            given, outputs = read.result(), tuple(run.result() for run in runs)
            yield Seen(number, image, given.box, given.tensor, given.truth, outputs, layouts, rules)
            progress((number + 1) / len(view), f"{number + 1}/{len(view)} images")


def _thread(stack: ExitStack) -> ThreadPoolExecutor:
    return stack.enter_context(ThreadPoolExecutor(1))


def _read(view: Dataset, image: Path, imgsz: ImageShape) -> _Read:
    box = letterboxed_file(image, imgsz)
    return _Read(box, to_tensor(box.pixels), Truth(view.boxes(image), box.width, box.height))


def _run(model: Run, read: Future[_Read]) -> Floats:
    output: Floats = model(read.result().tensor)[0]
    return output


def _cancel(waiting: deque[tuple[Future[_Read], list[Future[Floats]]]]) -> None:
    """Do not begin what nobody waits for any more."""
    for read, runs in waiting:
        read.cancel()
        for run in runs:
            run.cancel()
