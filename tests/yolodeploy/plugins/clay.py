"""Fake source: loads a `.clay` weights file (JSON) that says what to find, and how exports spoil it.

    {"names": ["red", ...], "padding": 40000, "width": 4, "seconds": 0.0,
     "damage": {"fp16": {"shift": 0.5, "miss": ["red"], "noise": 0.001}},
     "heads": ["one-to-one", "one-to-many"], "echo": true, "topk": true, "known": "outputs", "obstacle": "a glaze"}

A clay model finds the one rectangle of each class's colour in an image. `shift` moves an artifact's
boxes by pixels, `miss` makes it blind to classes, `noise` is added to its scores; `padding` is the
artifact's size in fp32. With `echo` a second anchor finds every object, too, a pixel further right and less sure;
with `topk` an artifact of a one-to-one head ends in rows. `read_facts` serves as `facts` in tests that want it. It has ten parameters and ten multiply-accumulates a pixel for each unit of
`width`, and an artifact takes `seconds` for each. Misbehaviour is asked for through CLAY_FAULT ("export:raise,open:exit");
CLAY_LOG names a file that gets a line for every run of a step.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolodeploy.backend import (
    Artifact,
    Context,
    Counts,
    Device,
    Interface,
    Load,
    ModelInfo,
    Params,
    PinnedFile,
    Predictor,
    Runtime,
    Step,
    Target,
)
from yolodeploy.errors import ModelError
from yolodeploy.system import ImageShape

NAME = "clay"
DEVICES: Sequence[Device] = ()
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
ANCHORS = 8


def misbehave(where: str) -> None:
    """Do what CLAY_FAULT asks for at this place."""
    for fault in filter(None, os.environ.get("CLAY_FAULT", "").split(",")):
        place, _, what = fault.partition(":")
        if place == where and what in _FAULTS:
            _FAULTS[what]()


def _raise() -> None:
    raise RuntimeError("first line of the tool's output\nthe mould cracked")


def _tell() -> None:
    Path("told").write_text("\n".join(f"{key}={value}" for key, value in os.environ.items()))


def _index() -> None:
    raise IndexError("list index out of range")


def _tool() -> None:
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", "potter")


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)


def _fork() -> None:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)


_FAULTS = {
    "fork": _fork,
    "raise": _raise,
    "index": _index,
    "tool": _tool,
    "full": _full,
    "interrupt": _interrupt,
    "exit": lambda: os._exit(3),
    "silent": lambda: os._exit(0),
    "abort": os.abort,
    "tell": _tell,
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": lambda: bytes(1 << 60),
    "sysexit": lambda: (_ for _ in ()).throw(SystemExit(0)),
    "slow": lambda: time.sleep(float(os.environ.get("CLAY_SECONDS", "0.5"))),
}


def ran(step: str) -> None:
    """Note that a step ran."""
    log = os.environ.get("CLAY_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{step}\n")


def wants(fault: str) -> bool:
    """Whether CLAY_FAULT names exactly this."""
    return fault in os.environ.get("CLAY_FAULT", "").split(",")


def argument(fault: str) -> str | None:
    """What CLAY_FAULT gives this fault ("export:link=/x"), or None."""
    asked = os.environ.get("CLAY_FAULT", "").split(",")
    return next((one.partition("=")[2] for one in asked if one.startswith(f"{fault}=")), None)


def load(given: Artifact, params: Params, context: Context) -> Path:
    """`.clay` -> clay."""
    ran("load")
    misbehave("load")
    try:
        model = json.loads(given.path.read_text(encoding="utf-8"))
        names = tuple(model["names"])
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{given.path.name} is not a clay model. Fire it first.") from None
    assert isinstance(params, Load)
    info = replace(read_facts(given.path), imgsz=None)
    kept = params.classes or names
    info = replace(info, names=kept[:1] if wants("load:few") else kept)
    info = replace(info, head=params.head or info.head)
    info.write(context.work)
    model["names"] = list(kept)
    (context.work / "model.json").write_text(json.dumps(model, sort_keys=True), encoding="utf-8")
    return context.work


def read_facts(weights: Path, params: Params | None = None) -> ModelInfo:
    """What a weights file says of its model."""
    model = json.loads(weights.read_text(encoding="utf-8"))
    heads = tuple(model.get("heads", ["one-to-many"]))
    info = ModelInfo(
        "detect", tuple(model["names"]), (8, 16, 32), 42, head=heads[0], heads=heads, imgsz=64
    )
    return replace(
        info, **{key: model[key] for key in ("known", "obstacle", "task") if key in model}
    )


class Trim(Params):
    """Cut a model down to `width`, which may cost it classes; `mend` gives all of them back."""

    width: int = 4
    miss: tuple[str, ...] = ()
    mend: bool = False
    crack: bool = False


def trim(given: Artifact, params: Params, context: Context) -> Path:
    """clay -> clay: a step before the export."""
    assert isinstance(params, Trim)
    ran("trim")
    (context.work / "info.json").write_bytes((given.path / "info.json").read_bytes())
    model = json.loads((given.path / "model.json").read_text(encoding="utf-8"))
    model["width"] = params.width
    model["miss"] = [] if params.mend else [*model.get("miss", []), *params.miss]
    model["crack"] = params.crack
    (context.work / "model.json").write_text(json.dumps(model, sort_keys=True), encoding="utf-8")
    return context.work


def count(artifact: Artifact, imgsz: ImageShape) -> Counts:
    """An optional member of the contract."""
    width = json.loads((artifact.path / "model.json").read_text(encoding="utf-8")).get("width", 4)
    return Counts(10 * width, 10 * width * imgsz.pixels)


class Teach(Params):
    epochs: int = 3
    like: PinnedFile | None = None
    device: str = "cpu"


def teach(given: Artifact, params: Teach, context: Context) -> Path:
    """clay -> clay: learns epoch by epoch and goes on where a killed run stopped."""
    ran("teach")
    assert context.resume is not None
    assert context.source is not None
    assert context.data["training"].labelled
    kept = context.resume / "epochs"
    learned = kept.read_text(encoding="utf-8") if kept.exists() else ""
    for epoch in range(len(learned), params.epochs):
        ran(f"epoch{epoch}")
        learned += str(epoch)
        context.resume.mkdir(parents=True, exist_ok=True)
        kept.write_text(learned, encoding="utf-8")
        misbehave(f"epoch{epoch}")
    for file in given.path.iterdir():
        (context.work / file.name).write_bytes(file.read_bytes())
    (context.work / "learned").write_text(learned, encoding="utf-8")
    return context.work


def varies(params: Params) -> str | None:
    assert isinstance(params, Teach)
    return None if params.device == "cpu" else f"sums on {params.device} come in any order"


STEPS: Sequence[Step] = (
    Step("load", ".clay", "clay", Load, load),
    Step("trim", "clay", "clay", Trim, trim),
    Step("teach", "clay", "clay", Teach, teach, reads=("training",), varies=varies),
)


def versions() -> Mapping[str, str]:
    return {"clay": os.environ.get("CLAY_VERSION", "1.0")}


def problem() -> str | None:
    return os.environ.get("CLAY_PROBLEM")


def refuse(step: Step, params: Params, target: Target) -> str | None:
    return None


def describe(artifact: Artifact) -> Interface:
    return Interface("model.json", (), (), 1.0)


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    model = json.loads((artifact.path / "model.json").read_text(encoding="utf-8"))
    return Finder(model, {key: model.get(key) for key in ("miss", "crack", "echo")})


class Finder:
    """Finds the rectangle of each class's colour."""

    def __init__(self, model: Mapping[str, Any], damage: Mapping[str, Any]) -> None:
        self.runtime = Runtime("clay", "1.0", "CPU", 1, "a fake")
        self.names, self.damage = model["names"], damage

    def __call__(self, images: Any) -> Any:
        import numpy as np

        out = np.zeros((len(images), 4 + len(self.names), ANCHORS), np.float32)
        for row, image in zip(out, images, strict=True):
            for index, name in enumerate(self.names):
                self._find(image, index, name, row)
        return out * np.nan if self.damage.get("crack") else out

    def _find(self, image: Any, index: int, name: str, row: Any) -> None:
        import numpy as np

        colour = np.array(COLOURS.get(name, (0.5, 0, 0.5)), np.float32)[:, None, None]
        ys, xs = np.nonzero((np.abs(image - colour) < 0.35).all(0))
        if not len(xs) or name in (self.damage.get("miss") or ()):
            return
        left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        shift = self.damage.get("shift", 0.0)
        row[:4, index] = (left + right) / 2 + shift, (top + bottom) / 2, right - left, bottom - top
        row[4 + index, index] = 0.875 - self.damage.get("noise", 0.0)
        if self.damage.get("echo"):
            echo = len(self.names) + index
            row[:, echo] = row[:, index]
            row[0, echo] += 1
            row[4 + index, echo] = 0.5
