"""Models of every family, built by Ultralytics with random weights, and what it computes with them.

Random weights say little if all scores are 0 or 1: statistics of normalisations are therefore taken from images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Every detection YAML of these families at its smallest scale; YOLOv9's "e" has blocks that the others have not.
SMALLEST = (
    "yolov5n", "yolov5n-p6", "yolov8n", "yolov8n-p2", "yolov8n-p6", "yolov8n-ghost", "yolov8n-ghost-p2",
    "yolov8n-ghost-p6", "yolov9t", "yolov9m", "yolov9c", "yolov9e", "yolov10n", "yolo11n", "yolo12n", "yolo26n",
    "yolo26n-p2", "yolo26n-p6",
)  # fmt: skip
_SCALES = "nsmlx"
LARGER = (
    *(f"yolov5{scale}{kind}" for kind in ("", "-p6") for scale in _SCALES[1:]),
    *(
        f"yolov8{scale}{kind}"
        for kind in ("", "-p2", "-p6", "-ghost", "-ghost-p2", "-ghost-p6")
        for scale in _SCALES[1:]
    ),
    "yolov9s",
    *(f"yolov10{scale}" for scale in "smblx"),
    *(f"yolo{family}{scale}" for family in (11, 12) for scale in _SCALES[1:]),
    *(f"yolo26{scale}{kind}" for kind in ("", "-p2", "-p6") for scale in _SCALES[1:]),
)

# Every YAML of the other tasks, at scale n or the smallest that there is.
OTHER_TASKS = (
    *(
        f"{family}-{task}"
        for family in ("yolov8n", "yolo11n", "yolo12n", "yolo26n")
        for task in ("seg", "pose", "obb", "cls")
    ),
    "yolov8n-seg-p6", "yolov8n-pose-p6", "yolov9c-seg", "yolov9e-seg",
)  # fmt: skip
_KEYPOINTS = 3 * 17  # numbers, in all YAMLs
TASKS = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}


def task_of(name: str) -> str:
    """The task of a model, by the name of its YAML."""
    return next((TASKS[part] for part in name.split("-")[1:] if part in TASKS), "detect")


@dataclass(frozen=True)
class Oracle:
    """A checkpoint, images [2, 3, H, W], and what Ultralytics gives for them.

    `many` is [2, 4 + nc + E, A], of a classifier [2, nc]; `rows` [2, k, 6 + E] is None for a model without a one-to-one
    head, `prototypes` [2, 32, H / 4, W / 4] for one without masks.
    """

    checkpoint: Path
    images: Tensor
    many: Tensor
    rows: Tensor | None
    prototypes: Tensor | None = None


def oracle(name: str, folder: Path, seed: int = 0, size: tuple[int, int] | None = None) -> Oracle:
    """Build a model of Ultralytics, save it as Ultralytics does, and run it on images of this size."""
    from ultralytics import YOLO

    torch.set_num_threads(1)  # as the other side: sums depend on the number of threads
    torch.manual_seed(seed)
    yolo: Any = YOLO(f"{name}.yaml", verbose=False)
    path = folder / f"{name}.pt"
    return run(yolo.model, path, lambda: yolo.save(path), size)


def narrow(name: str, folder: Path, size: tuple[int, int]) -> Oracle:
    """As `oracle`, of a model with an eighth of the channels and three classes, which converts in a second."""
    from ultralytics.nn import tasks

    kinds = {
        "segment": tasks.SegmentationModel,
        "pose": tasks.PoseModel,
        "obb": tasks.OBBModel,
        "classify": tasks.ClassificationModel,
    }
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = tasks.yaml_model_load(f"{name}.yaml")
    table.update(nc=3, scale="n", scales={"n": [0.33, 0.125, 1024]})
    model: Any = kinds[task_of(name)](table, verbose=False)
    path = folder / f"{name}.pt"
    return run(model, path, lambda: torch.save({"model": model.half()}, path), size)


def thin(name: str, folder: Path) -> Oracle:
    """As `oracle`, of a detector with a quarter of the channels: the same blocks and wiring in a third of the time."""
    from ultralytics.nn import tasks

    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = tasks.yaml_model_load(f"{name}.yaml")
    for part in ("backbone", "head"):
        table[part] = [[*row[:3], _quarter(row[3])] for row in table[part]]
    model: Any = tasks.DetectionModel(table, verbose=False)
    path = folder / f"{name}.pt"
    return run(model, path, lambda: torch.save({"model": model.half()}, path))


def _quarter(arguments: Any) -> Any:
    """The arguments of a row of a YAML; of them only channels are 32 or more."""
    if isinstance(arguments, list):
        return [_quarter(argument) for argument in arguments]
    return arguments // 4 if isinstance(arguments, int) and arguments >= 32 else arguments


def run(
    model: Any, path: Path, save: Callable[[], None], size: tuple[int, int] | None = None
) -> Oracle:
    """Give a model of Ultralytics random weights, save it as `path`, and run it."""
    randomise(model)
    coarse = int(model.stride.max())
    size = size or ((96, 160) if coarse <= 32 else (128, 192))
    calibrate(model, smooth(4, 2 * size[0], 2 * size[1]))
    save()
    model.half().float()  # what the file holds
    images = smooth(2, *size)
    head = model.model[-1]
    with torch.no_grad():
        many, prototypes = _made(model(images))
        rows = None
        if hasattr(head, "one2one_cv2"):
            head.end2end = True
            rows, _ = _made(model(images))
    return Oracle(path, images, many, rows, prototypes)


def smooth(count: int, height: int, width: int) -> Tensor:
    """Images [N, 3, H, W] of coloured clouds; noise would make attention swing from cell to cell."""
    cells = torch.rand(
        count, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(1)
    )
    return nn.functional.interpolate(cells, size=(height, width), mode="bilinear")


def differences(one: Tensor, other: Tensor, boxes: slice = slice(4)) -> tuple[float, float]:
    """The largest difference of a box coordinate in px, and of a score, in [N, 4 + nc, A]."""
    assert one.shape == other.shape, (one.shape, other.shape)
    delta = (one - other).abs()
    return delta[:, boxes].max().item(), delta[:, 4:].max().item()


def task_differences(
    one: Tensor, other: Tensor, task: str, rows: bool = False
) -> tuple[float, float]:
    """The largest difference of boxes and keypoints in px, and of all else, in what a model of a task gives.

    Both are [N, 4 + nc + E, A], [N, k, 6 + E] if `rows`, or [N, nc] of a classifier; keypoints have a visibility.
    """
    assert one.shape == other.shape, (one.shape, other.shape)
    delta = (one - other).abs()
    if task == "classify":
        return 0.0, delta.max().item()
    delta = delta.amax((0, 1) if rows else (0, 2))
    pixels = torch.zeros(len(delta), dtype=torch.bool)
    pixels[:4] = True
    if task == "pose":
        pixels[-_KEYPOINTS:] = torch.arange(_KEYPOINTS) % 3 < 2
    return delta[pixels].max().item(), delta[~pixels].max().item()


def _made(output: Any) -> tuple[Tensor, Tensor | None]:
    """The main output, and the prototypes that stand beside it; what is for training is left out."""
    first = output[0] if isinstance(output, tuple) else output
    return first if isinstance(first, tuple) else (first, None)


def randomise(model: nn.Module) -> None:
    """Give normalisations and biases values that differ from channel to channel."""
    for norm in _norms(model):
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, 0, 0.2)
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            nn.init.uniform_(parameter, 0, 0.3)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.Linear):  # so that classes differ
            nn.init.normal_(module.weight, 0, 0.3)


def calibrate(model: nn.Module, images: Tensor) -> None:
    """Take the statistics of normalisations from images; leaves the model ready to predict."""
    for norm in _norms(model):
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    with torch.no_grad():
        model(images)
    for norm in _norms(model):
        norm.momentum = 0.03
    model.eval()


def _norms(model: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
