"""Looks at an ONNX file in a process of its own, whose memory and time are bounded.

The child checks the file, fixes its image size, simplifies it, and runs both forms on the same random image. What
comes back is a float32 model of one size that computes the same, and what the file itself gave.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import EnvironmentProblem, ModelError
from yolodeploy.recipe import Preprocess
from yolodeploy.system import ImageShape, child_environment, python_command, quotable, shown

if TYPE_CHECKING:
    from onnx import ModelProto

MODEL, OUTPUTS, REPORT = "model.onnx", "outputs.npz", "report.json"
_PATIENCE = 900  # seconds of wall time: the child has its own limit of processor time
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal: what native code writes
_SEED, _BLOT = 0, 16  # px
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Examined:
    """What a child found.

    `model` is the simplified model, whose image input is named `image`. `imgsz` is the size that it was fixed to, `dynamic` says whether
    the file takes others. `outputs` are those of the file itself, in its order, for `probe(imgsz)`, and `cuts` the values in
    which it could end before it selects from its anchors, if it does. `stored` is the size of its weights in bytes, by form.
    """

    model: ModelProto
    image: str
    imgsz: ImageShape
    dynamic: bool
    outputs: Mapping[str, Floats]
    cuts: Sequence[Mapping[str, Floats]]
    metadata: Mapping[str, str]
    stored: Mapping[str, int]


def examine(path: Path, imgsz: ImageShape | None, preprocess: Preprocess) -> Examined:
    """Check and simplify a file for images of a size; None: its own, or that of its metadata.

    `preprocess` is what the model expects to be done to images. Raises ModelError for a file that cannot be used.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="yolodeploy-onnx-") as name:
        folder = Path(name)
        sides = [imgsz.height, imgsz.width] if imgsz else None
        job = {"path": str(path.absolute()), "sides": sides, "preprocess": preprocess.model_dump()}
        _run(path, folder, json.dumps(job))
        report = json.loads((folder / REPORT).read_text())
        with np.load(folder / OUTPUTS) as found:
            outputs = {name: found[f"output{i}"] for i, name in enumerate(report["names"])}
            values = {name: found[f"cut{i}"] for i, name in enumerate(report["cut_values"])}
        return Examined(
            onnx.load(folder / MODEL),
            report["image"],
            ImageShape(*report["imgsz"]),
            report["dynamic"],
            outputs,
            [{name: values[name] for name in cut} for cut in report["cuts"]],
            report["metadata"],
            report["stored"],
        )


def probe(imgsz: ImageShape) -> Floats:
    """A random image `[1, channels, height, width]` in 0..1, always the same: blots, as noise is no ordinary image."""
    import cv2

    cells = (imgsz.channels, imgsz.height // _BLOT + 2, imgsz.width // _BLOT + 2)
    size, how = (imgsz.width, imgsz.height), cv2.INTER_LINEAR
    planes = np.random.default_rng(_SEED).random(cells, np.float32)
    return np.stack([cv2.resize(plane, size, interpolation=how) for plane in planes])[None]


def _run(path: Path, folder: Path, job: str) -> None:
    command = python_command("yolodeploy_onnx.examination.child", str(folder), job)
    try:
        done = subprocess.run(
            command,
            env=child_environment(own_threading=True),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{shown(path)} cannot be used: simplifying it takes too long.") from error
    except OSError as error:
        raise EnvironmentProblem(f"no process could be started: {error.strerror}") from error
    if done.returncode == 0:
        return
    refusal = folder / "refusal.txt"
    if refusal.exists():
        raise ModelError(refusal.read_text(encoding="utf-8"))
    raise ModelError(f"{shown(path)} cannot be used: {_ended(done)}.")


def _ended(done: subprocess.CompletedProcess[bytes]) -> str:
    """What ended a process without a reason of its own: its limits have signals, and so has a crash."""
    lines = _COLOUR.sub("", done.stderr.decode(errors="replace")).splitlines()
    said = [line.strip() for line in lines if line.strip()]
    last = f" ({quotable(said[-1], 200)})" if said else ""
    if done.returncode == -getattr(signal, "SIGXCPU", 0):
        return "checking and simplifying it takes too long"
    if done.returncode < 0:
        return f"checking and simplifying it needs too much memory, or crashed{last}"
    return f"checking and simplifying it ended with code {done.returncode}{last}"
