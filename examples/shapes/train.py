"""Train the demo model, a YOLOv8n for five classes, from scratch on the shapes task.

    python examples/shapes/train.py

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import generate
import torch
from batches import Images, batches, draw_images
from torch import Tensor, nn
from ultralytics import __version__
from ultralytics.cfg import get_cfg
from ultralytics.models.yolo import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DATA = HERE / "data" / "data.yaml"
AVERAGE_DECAY = 0.9995  # of the moving average of the weights, which is the model that is saved
WEIGHT_DECAY = 5e-4
WARM_UP = 400  # steps
LAST_RATE = 0.02  # of the peak learning rate
MAX_GRADIENT = 10.0

Loss = Callable[[dict[str, Any], dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Options:
    """The command line; see ``parse``."""

    out: Path
    state: Path
    images: int
    epochs: int
    batch: int
    rate: float
    size: int
    seed: int
    threads: int
    measure_every: int


@dataclass(frozen=True)
class Training:
    """Everything that a training step changes, and the loss."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    loss: Loss


def main() -> None:
    """Draw the images, train, and write a checkpoint after every epoch."""
    options = parse()
    training = start(options)
    first = resume(training, options.state)
    images = draw_images(options.images, options.size, options.seed)
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
    """Build an untrained YOLOv8n, its moving average, its loss and its optimizer."""
    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    build: Callable[..., Any] = DetectionModel
    model = build("yolov8n.yaml", nc=len(generate.NAMES), verbose=False)
    model.yaml["yaml_file"] = "yolov8n.yaml"
    model.names = dict(enumerate(generate.NAMES))
    model.task = "detect"
    model.args = get_cfg()
    model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".dfl." not in name)  # its weights are the constants 0..15
    loss: Any = v8DetectionLoss(model)
    return Training(model, average, optimizer_of(model, options.rate), loss)


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
        batches(images, options.batch, options.seed, epoch), epoch * steps
    ):
        for group in training.optimizer.param_groups:
            group["lr"] = options.rate * rate_at(step, options.epochs * steps)
        total += train_step(training, batch)
        follow(training.average, training.model, step)
    return total / steps / options.batch


def train_step(training: Training, batch: dict[str, Tensor]) -> float:
    """Take one optimizer step, convolutions in bfloat16; return the loss summed over the batch."""
    with torch.autocast("cpu", torch.bfloat16):
        raw = training.model(batch["img"])
    loss = training.loss({name: as_float32(value) for name, value in raw.items()}, batch)[0].sum()
    training.optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(training.model.parameters(), MAX_GRADIENT)
    training.optimizer.step()
    return float(loss.detach())


def as_float32(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """Undo autocast: boxes need more than bfloat16's eight bits."""
    return [part.float() for part in value] if isinstance(value, list) else value.float()


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate, 1 at its peak: a linear rise, then half a cosine to LAST_RATE."""
    fall = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2
    return min(1.0, (step + 1) / WARM_UP) * fall


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the average towards the model, faster early on to forget the random start."""
    weight = max(1 - AVERAGE_DECAY, 1 / (step + 10) ** 0.8)
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
    figures = measure(options.out, options.size)
    replace(options.out, checkpoint(training.average, options, epoch, figures))
    return figures


def resume(training: Training, path: Path) -> int:
    """Take up the state in ``path`` if there is one; return the epoch to begin with."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts(training).items():
        part.load_state_dict(state[name])
    return int(state["epoch"]) + 1


def parts(training: Training) -> dict[str, Any]:
    """Name what a state file holds."""
    return {"model": training.model, "average": training.average, "optimizer": training.optimizer}


def checkpoint(
    average: nn.Module, options: Options, epoch: int, figures: Mapping[str, float]
) -> dict[str, Any]:
    """Return what Ultralytics keeps of a training, with the averaged model in half precision."""
    data = DATA.relative_to(ROOT).as_posix()
    args = {"task": "detect", "model": "yolov8n.yaml", "data": data, "imgsz": options.size}
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
    """Write a file that is either the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(content), partial)
    partial.replace(path)


def measure(path: Path, size: int) -> dict[str, float]:
    """Return precision, recall, mAP50 and mAP50-95 of a checkpoint on the committed val split."""
    model: Any = YOLO(path)
    with tempfile.TemporaryDirectory() as folder:
        results = model.val(
            data=str(DATA),
            imgsz=size,
            rect=False,
            conf=0.001,
            iou=0.7,
            device="cpu",
            workers=0,
            plots=False,
            verbose=False,
            project=folder,
        )
    return {name: float(value) for name, value in results.results_dict.items()}


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models" / "shapes-yolov8n.pt")
    parser.add_argument("--state", type=Path, default=HERE / "train.state", help="of a stopped run")
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=28)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--size", type=int, default=160, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--measure-every", type=int, default=4, help="epochs between measurements")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
