"""Kill one training again and again, then let it end; prints JSON. Arguments: artifact, data.yaml, folder.

PyTorch is imported once; every attempt is a fork of its own that trains on one thread.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch_support import context

from yolodeploy.backend import Artifact
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe.fields import View
from yolodeploy.system.digest import tree_digest
from yolodeploy_torch.params import Finetune
from yolodeploy_torch.training.finetune import finetune

PARAMS = Finetune(epochs=8, batch=8, threads=1, holdout=0.25)
KILLS = 6


def start(
    artifact: Artifact, data: Path, work: Path, resume: Path, most: int = PARAMS.epochs
) -> int:
    """Train in a process of its own; returns its id. It waits for ever once `most` epochs are done."""

    def progress(_done: float, _text: str) -> None:
        while most < PARAMS.epochs and epochs(resume) >= most:
            time.sleep(0.01)

    child = os.fork()
    if child == 0:
        view = load_view(data, View(split="train", images=16), 0)
        given = replace(context(work, 64), data={"training": view}, resume=resume, threads=1)
        given = replace(given, model=replace(given.model, names=view.names))
        finetune(artifact, PARAMS, replace(given, progress=progress))
        os._exit(0)
    return child


def epochs(resume: Path) -> int:
    state = resume / "state.pt"
    if not state.exists():
        return 0
    return len(torch.load(state, weights_only=True)["history"]["loss"])


def times(child: int, resume: Path) -> tuple[float, float]:
    """Wait for a training; seconds to the end of its first epoch, and of each that follows."""
    began, first = time.monotonic(), 0.0
    while not os.waitpid(child, os.WNOHANG)[0]:
        if not first and (resume / "state.pt").exists():
            first = time.monotonic() - began
        time.sleep(0.01)
    return first, (time.monotonic() - began - first) / (PARAMS.epochs - 1)


def main() -> None:
    artifact, data, root = (
        Artifact("yolo", Path(sys.argv[1]), ""),
        Path(sys.argv[2]),
        Path(sys.argv[3]),
    )
    resume = root / "resume"
    first, epoch = times(start(artifact, data, root / "whole", root / "kept"), root / "kept")
    chance, killed, reached = random.Random(0), 0, set()
    for finished in range(KILLS):  # killed after this many epochs, or after one more
        child = start(artifact, data, root / f"work{finished}", resume, finished + 1)
        while epochs(resume) < finished:
            assert not os.waitpid(child, os.WNOHANG)[0], "the training ended by itself"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.5 * epoch if finished else first))
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL  # not counted if it ended before
        reached.add(epochs(resume))
    assert os.waitpid(start(artifact, data, root / "again", resume), 0)[1] == 0
    result = {
        "killed": killed,
        "resumed_at": sorted(reached),
        "digest": tree_digest(root / "again"),
        "undisturbed": tree_digest(root / "whole"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
