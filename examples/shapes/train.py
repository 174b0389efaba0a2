"""Train a demo model for five classes on the shapes task.

    python examples/shapes/train.py --model yolo26
    python examples/shapes/train.py --task segment

The training images are drawn into memory; nothing is downloaded. A run that was stopped goes on
from its last epoch when it is started again with the same ``--state``.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import generate
import torch
from batches import Images, batches, kept_images
from families import FAMILIES, Family, build
from outlines import FLIP
from torch import Tensor, nn
from ultralytics import __version__
from ultralytics.cfg import get_cfg
from ultralytics.models.yolo import YOLO

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KEYPOINTS = (len(FLIP), 3)
OF_TASK = {"segment": "yolo11-seg", "pose": "yolo11-pose", "obb": "yolo11-obb"}
OF_TASK |= {"detect": "yolov8n", "classify": "yolo11-cls"}
WEIGHT_DECAY = 5e-4
WARM_UP = 400  # steps
LAST_RATE = 0.02  # of the peak learning rate
MAX_GRADIENT = 10.0


@dataclass(frozen=True)
class Options:
    """The command line; see ``parse``."""

    family: Family
    out: Path
    state: Path
    images: int
    epochs: int
    batch: int
    rate: float
    size: int
    scene_size: int
    seed: int
    threads: int
    measure_every: int
    cache: Path | None


@dataclass(frozen=True)
class Training:
    """Everything that a training step changes, and the loss."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    loss: Any


def main() -> None:
    """Draw the images, train, and write a checkpoint after every epoch."""
    options = parse()
    training = start(options)
    first = resume(training, options.state)
    scenes = options.images, options.scene_size, options.seed
    images = kept_images(options.cache, options.family.task, *scenes)
    began = time.monotonic()
    for epoch in range(first, options.epochs):
        loss = train_epoch(training, images, options, epoch)
        figures = finish_epoch(training, options, epoch)
        told = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        seconds = time.monotonic() - began
        print(
            f"epoch {epoch + 1}/{options.epochs} {seconds:.0f} s loss {loss:.4f} {told}", flush=True
        )
    options.state.unlink(missing_ok=True)


def start(options: Options) -> Training:
    """Build an untrained model, its moving average, its loss and its optimizer."""
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    model: Any = build(options.family, len(generate.NAMES), KEYPOINTS)
    model.names = dict(enumerate(generate.names_of(options.family.task)))
    model.task = options.family.task
    model.args = get_cfg(overrides={"epochs": options.epochs})
    if options.family.start:
        take_over(model, ROOT / "models" / options.family.start)
    model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".dfl." not in name)  # its weights are the constants 0..15
    return Training(model, average, optimizer_of(model, options.rate), model.init_criterion())


def take_over(model: Any, path: Path) -> None:
    """Copy the weights of a checkpoint's layers, from the first to the last that is the same."""
    for layer, other in zip(model.model, YOLO(path).model.model, strict=False):
        mine, theirs = layer.state_dict(), other.state_dict()
        shapes = {name: value.shape for name, value in mine.items()}
        if shapes != {name: value.shape for name, value in theirs.items()}:
            return
        layer.load_state_dict(theirs)


def optimizer_of(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """Return AdamW that decays the kernels and leaves biases and normalisation alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)


def train_epoch(training: Training, images: Images, options: Options, epoch: int) -> float:
    """Show every image once; return the mean loss of an image."""
    torch.set_num_threads(options.threads)
    training.model.train()
    steps = len(images.labels) // options.batch
    total = 0.0
    for step, batch in enumerate(
        batches(images, options.family.task, options.batch, options.seed, epoch), epoch * steps
    ):
        for group in training.optimizer.param_groups:
            group["lr"] = options.rate * rate_at(step, options.epochs * steps)
        total += train_step(training, batch)
        follow(training.average, training.model, step, options.family.decay)
    shift_weights(training.loss)
    return total / steps / options.batch


def shift_weights(loss: Any) -> None:
    """Tell a loss of two heads that an epoch is over: it moves weight to the one-to-one head."""
    if hasattr(loss, "update"):
        loss.update()


def train_step(training: Training, batch: dict[str, Tensor]) -> float:
    """Take one optimizer step, convolutions in bfloat16; return the loss summed over the batch."""
    with torch.autocast("cpu", torch.bfloat16):
        raw = training.model(batch["img"])
    loss = training.loss(as_float32(raw), batch)[0].sum()
    training.optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(training.model.parameters(), MAX_GRADIENT)
    training.optimizer.step()
    return float(loss.detach())


def as_float32(value: Any) -> Any:
    """Undo autocast in nested outputs: boxes need more than bfloat16's eight bits."""
    if isinstance(value, dict):
        return {name: as_float32(part) for name, part in value.items()}
    return [as_float32(part) for part in value] if isinstance(value, list) else value.float()


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate, 1 at its peak: a linear rise, then half a cosine to LAST_RATE."""
    fall = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / WARM_UP) * fall


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the average towards the model, faster early on to forget the random start."""
    weight = max(1 - decay, 1 / (step + 10) ** 0.8)
    theirs = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name], weight)
        else:
            value.copy_(theirs[name])


def finish_epoch(training: Training, options: Options, epoch: int) -> dict[str, float]:
    """Write state and checkpoint; now and then, and at the end, measure the checkpoint.

    Returns the figures, which are also written into it, or nothing where it is not their turn.
    """
    state = {name: part.state_dict() for name, part in parts(training).items()}
    replace(options.state, {"epoch": epoch, **state})
    replace(options.out, checkpoint(training.average, options, epoch, {}))
    if (epoch + 1) % options.measure_every and epoch + 1 < options.epochs:
        return {}
    figures = measure(options.out, options.family.task, options.size)
    replace(options.out, checkpoint(training.average, options, epoch, figures))
    return figures


def resume(training: Training, path: Path) -> int:
    """Take up the state in ``path`` if there is one; return the epoch to begin with."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts(training).items():
        part.load_state_dict(state[name])
    for _ in range(state["epoch"] + 1):
        shift_weights(training.loss)
    return int(state["epoch"]) + 1


def parts(training: Training) -> dict[str, Any]:
    """Name what a state file holds."""
    return {"model": training.model, "average": training.average, "optimizer": training.optimizer}


def checkpoint(
    average: nn.Module, options: Options, epoch: int, figures: Mapping[str, float]
) -> dict[str, Any]:
    """Return what Ultralytics keeps of a training, with the averaged model in half precision."""
    task, file = options.family.task, options.family.file
    data = data_of(task).relative_to(ROOT).as_posix()
    args = {"task": task, "model": file, "data": data, "imgsz": options.size}
    args |= {
        "epochs": options.epochs,
        "batch": options.batch,
        "lr0": options.rate,
        "seed": options.seed,
    }
    model: Any = copy.deepcopy(average).half().to(memory_format=torch.contiguous_format)
    model.args = dict(args)
    return {
        "epoch": epoch,
        "model": model,
        "ema": None,
        "optimizer": None,
        "train_args": args,
        "train_metrics": dict(figures),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }


def replace(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is either the old one or the new one, never half of it.

    torch repeats the file's name a thousand times in it: it is short.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / "model"
        torch.save(dict(content), partial)
        partial.replace(path)


def data_of(task: str) -> Path:
    """Return the committed data set of a task: its data.yaml or, for classify, its folder."""
    folder = HERE / ("data" if task == "detect" else f"data-{task}")
    return folder if task == "classify" else folder / "data.yaml"


def measure(path: Path, task: str, size: int) -> dict[str, float]:
    """Return what Ultralytics measures of a checkpoint on the committed val split.

    The figures of the one-to-many head bear Ultralytics' names; those of a one-to-one head, where
    there is one, have ``one-to-one/`` before the name.
    """
    figures = measure_head(path, task, size)
    model: Any = YOLO(path).model
    if hasattr(model.model[-1], "one2one_cv2"):
        single = measure_head(path, task, size, nms=False)
        figures |= {f"one-to-one/{name}": value for name, value in single.items()}
    return figures


def measure_head(path: Path, task: str, size: int, **head: bool) -> dict[str, float]:
    """Return the figures of one head: of the one-to-one head with ``nms=False``."""
    model: Any = YOLO(path)
    with tempfile.TemporaryDirectory() as folder:
        results = model.val(
            data=str(data_of(task)),
            imgsz=size,
            rect=False,
            conf=0.001,
            iou=0.7,
            device="cpu",
            workers=0,
            plots=False,
            verbose=False,
            project=folder,
            **head,
        )
    return {name: float(value) for name, value in results.results_dict.items()}


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--task", choices=OF_TASK, help="default: that of --model")
    add("--model", choices=FAMILIES, help="default: yolov8n, or for other tasks their yolo11")
    add("--out", type=Path, help="default: models/shapes-MODEL.pt")
    add("--state", type=Path, help="of a stopped run; default: MODEL.state beside this file")
    add("--images", type=int, default=6000, help="scenes; classify has an image for each object")
    add("--epochs", type=int, help="default: the model's, in families.py")
    add("--batch", type=int, default=16)
    add("--rate", type=float, help="peak learning rate; default: the model's, in families.py")
    add("--size", type=int, default=160, help="width and height of a scene in pixels")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--measure-every", type=int, default=4, help="epochs between measurements")
    add("--cache", type=Path, help="keep the drawn images in this .npz file")
    told = vars(parser.parse_args())
    name, task = told.pop("model"), told.pop("task")
    name = name or OF_TASK[task or "detect"]
    family = FAMILIES[name]
    if task not in (None, family.task):
        parser.error(f"--model {name} is of the task {family.task}, not {task}")
    told["scene_size"] = told["size"]
    if family.task == "classify":
        told["size"] = generate.CROP_SIZE
    usual = {
        "out": ROOT / "models" / f"shapes-{name}.pt",
        "state": HERE / f"{name}.state",
        "epochs": family.epochs,
        "rate": family.rate,
    }
    return Options(family=family, **told | {k: v for k, v in usual.items() if told[k] is None})


if __name__ == "__main__":
    main()
